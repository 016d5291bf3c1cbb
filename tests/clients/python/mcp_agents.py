"""The official `mcp` client, unmodified, by the newest protocol and by the one with a handshake."""

import asyncio
import json

import httpx2
from common import BASE, KEY, agent
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


def connected(mode):
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
    return Client(streamable_http_client(f"{BASE}/mcp", http_client=http), mode=mode)


async def tools(client):
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    tool = listed[agent("echo")]
    assert tool.input_schema["required"] == ["text"], tool
    told = []

    async def progress(done, total, message):
        told.append((done, message))

    result = await client.call_tool(agent("echo"), {"text": "over mcp"}, progress_callback=progress)
    assert not result.is_error and result.content[0].text == "over mcp", result
    assert told and told == sorted(told), told
    assert any("mock:script:echo" in message for _, message in told), told
    wrong = await client.call_tool(agent("echo"), {"text": 7})
    assert wrong.is_error and "text" in wrong.content[0].text, wrong


async def resources(client):
    templates = (await client.list_resource_templates()).resource_templates
    assert "mesh://documents/{id}" in [template.uri_template for template in templates], templates
    found, cursor = [], None
    while True:
        page = await client.list_resources(cursor=cursor)
        found += page.resources
        cursor = page.next_cursor
        if cursor is None:
            break
    document = next(one for one in found if one.name == "rain.md")
    text = (await client.read_resource(document.uri)).contents[0].text
    assert "umbrella" in text, text
    memory = next(one for one in found if one.uri.startswith("mesh://memories/"))
    kept = json.loads((await client.read_resource(memory.uri)).contents[0].text)
    assert memory.uri.endswith(kept["id"]), kept
    try:
        await client.read_resource("mesh://documents/doc_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    except Exception as error:
        assert "no mesh://documents" in str(error), error
    else:
        raise AssertionError("a document that is not there was read")


async def main():
    for mode in ("auto", "legacy"):
        async with connected(mode) as client:
            for check in (tools, resources):
                await check(client)
                print("ok", mode, client.protocol_version, check.__name__, flush=True)


asyncio.run(main())
