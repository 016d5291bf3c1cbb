"""The official `openai` client, unmodified, against agents."""

import json

import openai
from common import BASE, KEY, agent, raises

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, timeout=60)
SAID = [{"role": "user", "content": "the quick brown fox"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def models():
    names = [model.id for model in client.models.list()]
    assert agent("echo") in names, names
    assert client.models.retrieve(agent("echo")).object == "model"


def whole():
    answer = client.chat.completions.create(model=agent("echo"), messages=SAID, temperature=0.1, max_tokens=100)
    assert answer.id.startswith("chatcmpl-inv_"), answer.id
    choice = answer.choices[0]
    assert choice.message.content == "the quick brown fox", choice
    assert choice.finish_reason == "stop", choice
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def streamed():
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=agent("echo"), messages=SAID, stream=True, stream_options=options, user="ann")
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "the quick brown fox", texts
    assert sum(1 for text in texts if text) > 1, "it comes in pieces"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0


def tools():
    said = [{"role": "user", "content": json.dumps({"city": "Kyiv"})}]
    first = client.chat.completions.create(model=agent("tools"), messages=said, tools=[WEATHER])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls", choice
    call = choice.message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Kyiv"}, call
    said += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "it rains"}]
    second = client.chat.completions.create(model=agent("tools"), messages=said, tools=[WEATHER])
    assert second.choices[0].message.content == "it rains", second
    assert second.choices[0].finish_reason == "stop"


def tools_streamed():
    said = [{"role": "user", "content": json.dumps({"city": "Lviv"})}]
    with client.chat.completions.stream(model=agent("tools"), messages=said, tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls", choice
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Lviv"}, choice


def starts_over():
    said = [{"role": "user", "content": "hello"}]

    def read():
        for _ in client.chat.completions.create(model=agent("flaky"), messages=said, stream=True):
            pass

    error = raises(openai.APIError, read)
    assert "starts over" in str(error), error
    # In one piece nobody sees that it started over.
    whole = client.chat.completions.create(model=agent("flaky"), messages=said)
    assert whole.choices[0].message.content, whole


def errors():
    def ask(**more):
        request = {"model": agent("echo"), "messages": SAID, **more}
        return lambda: client.chat.completions.create(**request)

    missing = raises(openai.NotFoundError, ask(model="nobody-of-that-name"))
    assert missing.code == "model_not_found", missing.body
    refused = raises(openai.BadRequestError, ask(n=2))
    assert refused.param == "n" and refused.type == "invalid_request_error", refused.body
    raises(openai.BadRequestError, ask(messages=[]))
    failed = raises(openai.APIStatusError, ask(model=agent("fail")))
    assert failed.response.headers["x-should-retry"] == "false", failed.response.headers
    stranger = openai.OpenAI(base_url=f"{BASE}/v1", api_key="mak_wrong", max_retries=0)
    wrong = raises(openai.AuthenticationError, lambda: stranger.models.list())
    assert wrong.code == "invalid_api_key", wrong.body


def repeated():
    def ask(text):
        said = [{"role": "user", "content": text}]
        return client.chat.completions.create(
            model=agent("echo"), messages=said, extra_headers={"Idempotency-Key": "openai-once"}
        )

    assert ask("once").id == ask("once").id
    error = raises(openai.UnprocessableEntityError, lambda: ask("twice"))
    assert error.code == "key-reused", error.body


if __name__ == "__main__":
    for check in (models, whole, streamed, tools, tools_streamed, starts_over, errors, repeated):
        check()
        print("ok", check.__name__, flush=True)
