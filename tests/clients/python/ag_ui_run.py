"""Runs of AG-UI, each event read by the official types of `ag-ui-protocol`."""

import json
from uuid import uuid4

import httpx
from ag_ui.core import Event, RunAgentInput, Tool, UserMessage
from common import BASE, KEY, agent
from pydantic import TypeAdapter

READ = TypeAdapter(Event)
# A run of the same names would be the same run.
THREAD = str(uuid4())


def run(name, text, thread, number, **more):
    said = more.pop("messages", [UserMessage(id="1", content=text)])
    request = RunAgentInput(thread_id=f"{THREAD}-{thread}", run_id=f"run-{number}", messages=said, **more)
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "text/event-stream", "Content-Type": "application/json"}
    body = request.model_dump_json(by_alias=True, exclude_none=True)
    url = f"{BASE}/api/v1/agents/{agent(name)}/ag-ui"
    events = []
    with httpx.stream("POST", url, content=body, headers=headers, timeout=60, trust_env=False) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("data:"):
                events.append(READ.validate_python(json.loads(line[5:])))
    return events


def kinds(events):
    return [event.type.value for event in events]


def streamed():
    events = run("stream", "go", "t1", 1)
    assert kinds(events)[0] == "RUN_STARTED" and kinds(events)[-1] == "RUN_FINISHED", kinds(events)
    text = "".join(event.delta for event in events if event.type.value == "TEXT_MESSAGE_CONTENT")
    assert text == "One word after the other, as a slow reader likes it.", text
    assert kinds(events).count("STEP_STARTED") == kinds(events).count("STEP_FINISHED") > 0
    again = run("stream", "go", "t1", 1)
    assert [event for event in again if event.type.value == "RUN_FINISHED"], "the same run is followed again"


def tools():
    tool = Tool(name="ask", description="Asks", parameters={"type": "object", "properties": {"n": {"type": "integer"}}})
    events = run("tools", json.dumps({"n": 7}), "t2", 1, tools=[tool])
    call = next(event for event in events if event.type.value == "TOOL_CALL_START")
    assert call.tool_call_name == "ask", call
    arguments = next(event for event in events if event.type.value == "TOOL_CALL_ARGS")
    assert json.loads(arguments.delta) == {"n": 7}, arguments
    assert events[-1].outcome.pending_tool_call_ids == [call.tool_call_id], events[-1]


def starts_over():
    events = run("flaky", "hello", "t3", 1)
    assert "MESSAGES_SNAPSHOT" in kinds(events) and kinds(events)[-1] == "RUN_FINISHED", kinds(events)


def fails():
    events = run("fail", "hello", "t4", 1)
    assert kinds(events)[-1] == "RUN_ERROR" and events[-1].message, events[-1]


if __name__ == "__main__":
    for check in (streamed, tools, starts_over, fails):
        check()
        print("ok", check.__name__, flush=True)
