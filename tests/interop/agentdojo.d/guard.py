"""The bundle for AgentDojo's tools, and the runtime that takes every call to the node before it carries it out.

The runtime is what a CaMeL interpreter or an MCP bridge would be: it is no part of the agent, and the agent cannot go around it. It
keeps to itself where values come from, and says so with each call. What may happen is the node's to say.
"""

import base64
import hashlib
import http.client
import json
import pathlib
import re
import socket
import time
import typing

HERE = pathlib.Path(__file__).parent
TABLE = json.loads((HERE / "tools.json").read_text())
TOOLS = TABLE["tools"]
LIMITS = {
    "approver_group": "security-duty",
    "decide_within_ms": 86_400_000,
    "named_len_min": 3,
    "amount_unnamed_max": 100,
}
# How long a call that waits for a person may wait; nobody answers here.
WAITS_S = 4


def operation(tool: str) -> str:
    return f"tools.{TOOLS[tool]['connector']}.{tool.replace('_', '-')}"


def schema(tool: str, about: dict, arguments: list[str]) -> dict:
    """Every argument is text, or a list of texts: JSON without floats, whatever Python thinks of it."""
    text = {"type": "string", "maxLength": 65_536}
    value = {"anyOf": [text, {"type": "array", "items": text, "maxItems": 256}]}
    properties = {name: value for name in arguments}
    properties["on"] = {"const": about["connector"]}
    properties["sources"] = {"type": "object", "additionalProperties": {"enum": ["records"]}}
    writes = about["effect"] == "write"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": tool.replace("_", " "),
        "type": "object",
        "additionalProperties": False,
        "required": ["on"],
        "properties": properties,
        "cauldron": {
            "operation": operation(tool),
            "connector": about["connector"],
            "class": "R1" if writes else "R0",
            "effect": about["effect"],
            "object": "/on",
            "intent": {"fields": ["/on"], "each": "window"},
            "reversibility": "irreversible" if about.get("destroys") or about.get("outward") else "reversible",
        },
    }


def write_bundle(folder: pathlib.Path, signatures: dict[str, list[str]]) -> None:
    """A bundle for the tools that the suites have, and the answer to the principal."""
    folder.mkdir()
    unknown = sorted(signatures.keys() - TOOLS.keys())
    if unknown:
        raise SystemExit(f"tools.json does not say what these tools are: {', '.join(unknown)}")
    (folder / "tools.rego").write_text((HERE / "tools.rego").read_text())
    (folder / "tools_test.rego").write_text((HERE / "tools_test.rego").read_text())
    facts = {}
    for tool, about in TOOLS.items():
        known = {"targets": [], "records": [], "amounts": [], "outward": False, "destroys": False, "speaks": False}
        facts[operation(tool)] = {key: about.get(key, default) for key, default in known.items()}
    (folder / "tools.json").write_text(json.dumps({"assistant": {"tools": facts, "limits": LIMITS}}, indent=1))
    classes = {}
    for tool, arguments in {**signatures, "tell": ["text"]}.items():
        document = schema(tool, TOOLS[tool], arguments)
        name = f"{operation(tool)}.json"
        (folder / name).write_text(json.dumps(document, indent=1))
        about = document["cauldron"]
        classes[f"{about['operation']}/{about['connector']}"] = {
            "risk": about["class"],
            "files": ["tools.rego", "tools.json"],
            "schema": name,
        }
    manifest = {"version": "agentdojo-1", "classes": classes}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def connectors(signatures: dict[str, list[str]]) -> str:
    """`[[connectors.external]]` of the node that the agent's runtime talks to."""
    of: dict[str, list[str]] = {}
    for tool in [*signatures, "tell"]:
        of.setdefault(TOOLS[tool]["connector"], []).append(operation(tool))
    text = ""
    for name, operations in of.items():
        text += f"\n[[connectors.external]]\nname = {json.dumps(name)}\noperations = {json.dumps(operations)}\n"
        text += f"labels = {json.dumps(TABLE['labels'].get(name, []))}\nreport_within = \"30s\"\n"
    return text


class Api(http.client.HTTPConnection):
    """A node's API on its socket, over one connection."""

    def __init__(self, path: str):
        super().__init__("node", timeout=120)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def post(self, path: str, body: dict) -> tuple[int, dict]:
        self.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())


def plain(value: typing.Any) -> typing.Any:
    """An argument as the node sees it: text, or texts."""
    if isinstance(value, dict):
        return " ".join(f"{key} {plain(item)}" for key, item in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, str) else str(getattr(value, "value", value))


def records(value: typing.Any, field: str = "") -> typing.Iterator[str]:
    """Whole values of structured fields: ids, addresses, dates. No free text, and nothing with a space in it."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, dict):
        for key, item in value.items():
            yield from records(item, str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from records(item, field)
    elif isinstance(value, (str, int)) and field not in TABLE["free_text"]:
        text = str(value)
        if field and text and len(text) <= 64 and not re.search(r"\s", text):
            yield text


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def runs(text: str, length: int = 3) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


class Waits(Exception):
    """A person is asked; nobody goes on without them."""


class Denied(Exception):
    """Policy says no."""


class Runtime:
    """Takes the calls of one session to the node, and carries out what the node has started."""

    def __init__(self, api: Api, agent: str, purpose: str):
        status, answer = api.post(
            "/v1/sessions", {"agent": agent, "principal": "ana", "role": "user", "purpose": purpose}
        )
        if status != 200:
            raise RuntimeError(f"no session: {answer}")
        self.api, self.session, self.key = api, answer["session"], answer["key"]
        self.records: set[str] = set()
        self.public: set[tuple[str, ...]] = set()
        self.other = runs(purpose)
        self.waited = self.denied = self.calls = 0
        self.rules: list[str] = []

    def post(self, path: str, body: dict) -> dict:
        status, answer = self.api.post(f"/v1/sessions/{self.session}{path}", {"key": self.key, **body})
        if status != 200:
            raise RuntimeError(f"{path}: {answer}")
        return answer

    def call(self, tool: str, args: dict, carry_out: typing.Callable[[], tuple[typing.Any, str]]) -> typing.Any:
        """Asks, carries out what may be, and says what came of it."""
        about, self.calls = TOOLS[tool], self.calls + 1
        sent = {name: plain(value) for name, value in args.items() if value is not None}
        sources = {}
        for name in about.get("records", []):
            values = sent.get(name, [])
            if set([values] if isinstance(values, str) else values) <= self.records:
                sources[name] = "records"
        taint = []
        if about.get("speaks") and runs(sent["text"]) & (self.public - self.other):
            taint = ["quotes:public"]
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + WAITS_S + 1))
        one = f"{self.session[:16]}-{self.calls}"
        body = {
            "operation": operation(tool),
            "args": {**sent, "on": about["connector"], **({"sources": sources} if sources else {})},
            "rationale": f"the agent calls {tool}",
            "intent": one,
            "conflict_key": one,
            "expires": expires,
            "taint": taint,
        }
        answer = self.post("/calls", body)
        until = time.monotonic() + 30
        pause = 0.001
        while answer["execute"] is None:
            if answer["state"] in ("PENDING_APPROVAL", "EXPIRED"):
                self.waited += 1
                self.rules += answer["why"]
                raise Waits(answer["why"])
            if answer["state"] in ("DENIED", "FAILED", "VOID"):
                self.denied += 1
                self.rules += answer["why"]
                raise Denied(answer["why"])
            if time.monotonic() > until:
                raise RuntimeError(f"{tool} stays {answer['state']}: {answer['why']}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
            answer = self.post(f"/calls/{answer['id']}/wait", {})
        if answer["execute"]["args"] != body["args"]:
            raise RuntimeError(f"what may be done is not what was asked: {answer['execute']}")
        result, text = carry_out()
        outcome = {"outcome": "done", "digest": hashlib.sha256(text.encode()).hexdigest(), "len": len(text.encode())}
        self.post(f"/calls/{answer['id']}/outcome", outcome)
        self.learn(about["connector"], result, text)
        return text

    def learn(self, connector: str, result: typing.Any, text: str) -> None:
        """Where values and words come from, for what is called later."""
        self.records |= set(records(result))
        public = "untrusted:public" in TABLE["labels"].get(connector, [])
        (self.public if public else self.other).update(runs(text))
