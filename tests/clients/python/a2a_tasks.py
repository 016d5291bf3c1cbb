"""The official `a2a-sdk` client, unmodified: messages, streams, tasks, and pushes to a server of its own."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from uuid import uuid4

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.helpers import get_artifact_text, new_text_message
from a2a.types import a2a_pb2 as types
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError
from common import BASE, KEY, agent

WORDS = "One word after the other, as a slow reader likes it."


def http(key=KEY):
    return httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60)


async def client_of(name, streaming):
    shared = http()
    card = await A2ACardResolver(shared, f"{BASE}/a2a/{agent(name)}").get_agent_card()
    assert card.name == agent(name) and card.capabilities.streaming, card
    return ClientFactory(ClientConfig(httpx_client=shared, streaming=streaming)).create(card)


def said(text, **more):
    message = new_text_message(text, role=types.Role.ROLE_USER)
    for name, value in more.items():
        setattr(message, name, value)
    return types.SendMessageRequest(message=message)


async def sent(client, request):
    return [response async for response in client.send_message(request)]


async def whole():
    client = await client_of("echo", streaming=False)
    context = str(uuid4())
    request = said("over a2a", context_id=context)
    [answer] = await sent(client, request)
    task = answer.task
    assert task.status.state == types.TaskState.TASK_STATE_COMPLETED, task
    assert get_artifact_text(task.artifacts[0]) == "over a2a", task
    assert task.context_id == context, task
    # The same message again is the same task.
    [again] = await sent(client, request)
    assert again.task.id == task.id, again
    got = await client.get_task(types.GetTaskRequest(id=task.id))
    assert get_artifact_text(got.artifacts[0]) == "over a2a", got
    listed = await client.list_tasks(types.ListTasksRequest(context_id=context, include_artifacts=True))
    assert [one.id for one in listed.tasks] == [task.id] and listed.total_size == 1, listed


async def streamed():
    client = await client_of("stream", streaming=True)
    responses = await sent(client, said("go on"))
    kinds = [response.WhichOneof("payload") for response in responses]
    assert kinds[0] == "task" and kinds.count("artifact_update") > 2, kinds
    text = ""
    for response in responses:
        if response.WhichOneof("payload") == "artifact_update":
            update = response.artifact_update
            text = (text if update.append else "") + get_artifact_text(update.artifact)
    assert text == WORDS, text
    assert responses[-1].status_update.status.state == types.TaskState.TASK_STATE_COMPLETED, responses[-1]


async def cancelled():
    client = await client_of("slow", streaming=True)
    heard, begun = [], asyncio.Event()

    async def listen(task):
        async for response in client.subscribe(types.SubscribeToTaskRequest(id=task)):
            heard.append(response)
            begun.set()

    stream = client.send_message(said("count"))
    first = await anext(stream)
    task = first.task.id
    listening = asyncio.create_task(listen(task))
    await begun.wait()
    cancelled = await client.cancel_task(types.CancelTaskRequest(id=task))
    assert cancelled.id == task, cancelled
    rest = [response async for response in stream]
    assert rest[-1].status_update.status.state == types.TaskState.TASK_STATE_CANCELED, rest[-1]
    await listening
    assert heard[0].task.id == task, heard
    assert heard[-1].status_update.status.state == types.TaskState.TASK_STATE_CANCELED, heard[-1]
    try:
        await client.cancel_task(types.CancelTaskRequest(id=task))
    except TaskNotCancelableError:
        pass
    else:
        raise AssertionError("a task that has ended was cancelled")


async def failures():
    client = await client_of("echo", streaming=False)
    for missing in ("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"):
        try:
            await client.get_task(types.GetTaskRequest(id=missing))
        except TaskNotFoundError:
            continue
        raise AssertionError(f"there is a task {missing}")
    failing = await client_of("fail", streaming=False)
    [answer] = await sent(failing, said("x"))
    assert answer.task.status.state == types.TaskState.TASK_STATE_FAILED, answer
    assert answer.task.status.message.parts[0].text, answer
    async with http("mak_wrong") as stranger:
        card = await stranger.get(f"{BASE}/a2a/{agent('echo')}/.well-known/agent-card.json")
        assert card.status_code == 401, card


class Receiver(BaseHTTPRequestHandler):
    """Refuses the first post of all, to be told again."""

    told = []
    refused = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not Receiver.refused:
            Receiver.refused = 1
            self.send_response(503)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            Receiver.told.append((headers, json.loads(body)))
            self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


async def configured():
    """On a task that goes on until it is cancelled: of one that has ended nothing can be told."""
    url = "http://127.0.0.1:9/told"
    client = await client_of("slow", streaming=True)
    request = said("count")
    request.configuration.task_push_notification_config.url = url
    stream = client.send_message(request)
    task = (await anext(stream)).task.id
    listed = await client.list_task_push_notification_configs(
        types.ListTaskPushNotificationConfigsRequest(task_id=task)
    )
    assert [one.url for one in listed.configs] == [url], listed
    second = types.TaskPushNotificationConfig(task_id=task, id="other", url=f"{url}/other")
    made = await client.create_task_push_notification_config(second)
    assert made.id == "other", made
    named = types.GetTaskPushNotificationConfigRequest(task_id=task, id="other")
    assert (await client.get_task_push_notification_config(named)).url == f"{url}/other"
    for config, left in (("other", [url]), (listed.configs[0].id, [])):
        await client.delete_task_push_notification_config(
            types.DeleteTaskPushNotificationConfigRequest(task_id=task, id=config)
        )
        listed = await client.list_task_push_notification_configs(
            types.ListTaskPushNotificationConfigsRequest(task_id=task)
        )
        assert [one.url for one in listed.configs] == left, listed
    await client.cancel_task(types.CancelTaskRequest(id=task))
    async for _ in stream:
        pass


async def pushed():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/told"
    client = await client_of("stream", streaming=True)
    request = said("tell me")
    config = request.configuration.task_push_notification_config
    config.url, config.token = url, "a-token"
    config.authentication.scheme, config.authentication.credentials = "Bearer", "a-secret"
    stream = client.send_message(request)
    async for _ in stream:
        pass
    deadline = asyncio.get_running_loop().time() + 60
    while not any("task" in body for headers, body in Receiver.told if headers.get("x-a2a-notification-token")):
        assert asyncio.get_running_loop().time() < deadline, Receiver.told
        await asyncio.sleep(0.05)
    own = [(headers, body) for headers, body in Receiver.told if headers.get("x-a2a-notification-token")]
    headers, last = own[-1]
    assert headers["x-a2a-notification-token"] == "a-token" and headers["authorization"] == "Bearer a-secret", headers
    assert last["task"]["status"]["state"] == "TASK_STATE_COMPLETED", last
    assert last["task"]["artifacts"][0]["parts"][0]["text"] == WORDS, last
    assert Receiver.refused, "the first post was refused"
    server.shutdown()


async def private():
    client = await client_of("echo", streaming=False)
    request = said("x")
    request.configuration.task_push_notification_config.url = "http://10.0.0.1/told"
    try:
        await sent(client, request)
    except Exception as error:
        assert "private" in str(error), error
    else:
        raise AssertionError("a private address was taken")


async def main():
    for check in (whole, streamed, cancelled, failures, configured, pushed, private):
        await check()
        print("ok", check.__name__, flush=True)


asyncio.run(main())
