"""The master's tools with the official library (PyPI's mcp): lists them and calls each. Arguments: the address of /v2, the API key, a free port, another."""

import asyncio
import json
import sys

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

URL, KEY, PORT, OTHER = sys.argv[1:]

# The tools of the original's master 2.0.
ORIGINALS = {
    "list_instances", "get_instance", "create_instance", "update_instance", "control_instance", "set_instance_basic",
    "set_instance_security", "set_instance_connection", "set_instance_network", "set_instance_protocol", "set_instance_traffic",
    "set_instance_advanced", "get_instance_config", "delete_instance", "export_instances", "import_instances", "tcping_target",
    "get_master_info", "update_master_info",
}
OURS = {"check_instance", "get_instance_logs", "tcping"}


async def call(client, name, **arguments):
    result = await client.call_tool(name, arguments)
    assert not result.is_error, (name, result)
    assert json.loads(result.content[0].text) == result.structured_content, name
    print("called", name)
    return result.structured_content


async def every_tool(client):
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert tools == ORIGINALS | OURS, tools ^ (ORIGINALS | OURS)
    called = set()

    async def tool(name, **arguments):
        called.add(name)
        return await call(client, name, **arguments)

    made = await tool("create_instance", role="client", tunnel_address="127.0.0.1", tunnel_port=PORT, target_address="127.0.0.1",
                      target_port="9", mode="1", alias="one")
    one = made["id"]
    assert made["url"] == f"client://127.0.0.1:{PORT}/127.0.0.1:9?log=info&mode=1", made
    assert [each["id"] for each in (await tool("list_instances"))["instances"]] == [one]
    assert (await tool("get_instance", id=one))["alias"] == "one"
    changed = await tool("update_instance", id=one, alias="two", restart=True, peer={"sid": "s"}, tags={"k": "v"})
    assert (changed["alias"], changed["meta"]["peer"]["sid"], changed["meta"]["tags"]) == ("two", "s", {"k": "v"}), changed
    await tool("set_instance_basic", id=one, tunnel_port=OTHER)
    await tool("set_instance_security", id=one, password="a secret")
    await tool("set_instance_connection", id=one, min="8")
    await tool("set_instance_network", id=one, rate="10", read="30s")
    await tool("set_instance_protocol", id=one, noudp="1")
    await tool("set_instance_traffic", id=one, block="1", lbs="0")
    last = await tool("set_instance_advanced", id=one, parameters={"slot": 9})
    wanted = f"client://a%20secret@127.0.0.1:{OTHER}/127.0.0.1:9?block=1&lbs=0&log=info&min=8&mode=1&noudp=1&rate=10&read=30s&slot=9"
    assert last["url"] == wanted, last
    config = await tool("get_instance_config", id=one)
    assert (config["password"], config["tunnel_port"], config["parameters"]["slot"]) == ("a secret", OTHER, "9"), config
    assert config["parameters"]["dns"] == "5m0s", config
    await tool("control_instance", id=one, action="restart")
    assert isinstance((await tool("get_instance_logs", id=one))["lines"], list)
    checked = await tool("check_instance", id=one, lang="zh")
    assert checked["findings"] and checked["faults"] == 0, checked
    assert len((await tool("export_instances"))["instances"]) == 1
    await tool("delete_instance", id=one)
    back = await tool("import_instances")
    assert [each["url"] for each in back["imported"]] == [wanted], back
    for name in ("tcping", "tcping_target"):
        assert (await tool(name, target="127.0.0.1:1"))["connected"] is False
    assert (await tool("update_master_info", alias="box"))["alias"] == "box"
    assert (await tool("get_master_info"))["noc"] > 0
    assert called == tools, tools - called


async def main():
    http = create_mcp_http_client(headers={"X-API-Key": KEY})
    async with Client(streamable_http_client(URL, http_client=http)) as client:
        await every_tool(client)
    print("done")


asyncio.run(main())
