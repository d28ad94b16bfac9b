"""A person at the approval page, in a real browser: WebDriver (W3C) over HTTP, with the standard library alone."""

import argparse
import base64
import hashlib
import hmac
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

PHONE = (360, 740)
DESK = (1200, 900)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER = "\ue007"


class Driver:
    """One browser session with a platform authenticator that knows its user."""

    def __init__(self, folder):
        port = free_port()
        log = open(os.path.join(folder, "chromedriver.log"), "w")
        self.process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log)
        self.base = f"http://127.0.0.1:{port}"
        until("chromedriver answers", lambda: self.call("GET", "/status")["ready"])
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile"],
            "binary": "/usr/bin/chromium",
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{made['sessionId']}"
        self.authenticator = self.call(
            "POST",
            "/webauthn/authenticator",
            {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserConsenting": True,
                "isUserVerified": True,
            },
        )

    def call(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait()

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def find(self, css):
        return self.call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.call("POST", f"/element/{self.find(css)}/click")

    def type(self, css, text):
        self.call("POST", f"/element/{self.find(css)}/value", {"text": text})

    def press(self, key):
        down_up = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": down_up}]})

    def text(self, css):
        return self.run("const e = document.querySelector(arguments[0]); return e ? e.textContent : null", css)

    def path(self):
        return self.run("return location.pathname")

    def cdp(self, command, **params):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def look(self, size, scheme="light"):
        width, height = size
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shot(self, path, whole=True):
        self.run("document.activeElement && document.activeElement.blur(); scrollTo(0, 0)")
        made = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(made["data"]))

    def knows_user(self, yes):
        self.call("POST", f"/webauthn/authenticator/{self.authenticator}/uv", {"isUserVerified": yes})


class Receiver:
    """What a chat gateway or a pager would be: takes webhooks, and believes those that are signed (Standard Webhooks 1.0.0)."""

    def __init__(self, port, secret_file):
        with open(secret_file, encoding="utf-8") as file:
            key = base64.b64decode(file.readline().strip().removeprefix("whsec_"))
        self.messages, self.forged = [], []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                tag = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
                good = any(hmac.compare_digest(tag, one) for one in self.headers["webhook-signature"].split(" "))
                (receiver.messages if good else receiver.forged).append(json.loads(body))
                self.send_response(204 if good else 401)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def asked(self, proposal):
        of = (m["data"] for m in self.messages if m["type"] == "approval.pending")
        return next((data for data in of if data["proposal"] == proposal), None)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, check, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except (OSError, RuntimeError, IndexError):
            found = None
        if found:
            return found
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: {what}")
        time.sleep(0.1)


def holds(what, yes):
    if not yes:
        raise SystemExit(f"FAILED: {what}")


def attack(address, user="root"):
    line = "Nov 10 06:55:{:02} lyon sshd[{}]: Failed password for {} from {} port 40{} ssh2\n"
    return "".join(line.format(40 + n, 240 + n, user, address, n) for n in range(6))


def main():
    parser = argparse.ArgumentParser()
    for name in ("cauldron", "hq", "origin", "scene", "hook", "shots"):
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(folder)
        try:
            story(driver, args, args.shots or folder)
        except BaseException:
            print("the page:", driver.run("return document.body.innerText"), file=sys.stderr)
            raise
        finally:
            driver.close()


def story(driver, args, shots):
    os.makedirs(shots, exist_ok=True)
    receiver = Receiver(int(args.hook), f"{args.scene}/duty.secret")

    def cauldron(*command):
        ran = subprocess.run([args.cauldron, *command, "--node", args.hq], capture_output=True, text=True, check=False)
        holds(f"cauldron {' '.join(command)}: {ran.stderr}", ran.returncode == 0)
        return ran.stdout

    def waiting():
        return json.loads(cauldron("approvals", "list", "--output", "json"))["items"]

    def blocked(address):
        with open(f"{args.scene}/blocklist", encoding="utf-8") as file:
            return any(line.split(" ")[0] == address for line in file)

    def strike(*addresses, user="root"):
        before = len(waiting())
        with open(f"{args.scene}/auth.log", "a", encoding="utf-8") as log:
            log.write("".join(attack(address, user) for address in addresses))
        until("the proposals wait", lambda: len(waiting()) == before + len(addresses))

    def pictures(name):
        for size, form in ((PHONE, "360"), (DESK, "desk")):
            for scheme in ("light", "dark"):
                driver.look(size, scheme)
                driver.shot(f"{shots}/approval-{name}-{form}-{scheme}.png")
            if size is PHONE:
                width = driver.run("return document.documentElement.scrollWidth")
                holds(f"{name}: no horizontal scrolling at 360 px, but {width}", width <= PHONE[0])

    def refused(words):
        until(f"the page says: {words}", lambda: words in (driver.text("#error") or ""))

    # A passkey is made on the page, and the council enrols it.
    driver.open(f"{args.origin}/enrol")
    driver.type("#person", "ana")
    driver.click("button[type=submit]")
    line = until("the page hands out a line", lambda: driver.text("#line"))
    holds("it is a passkey's", line.startswith("cauldron-passkey:v1:"))
    pictures("enrol")
    driver.open(args.origin)
    pictures("sign-in")
    driver.click("button[type=submit]")
    refused("nobody is enrolled with this passkey".capitalize())
    with open(f"{args.scene}/passkey.txt", "w", encoding="utf-8") as file:
        file.write(line)
    council = f"{args.hq}/people/ana.council.key"
    cauldron("people", "enrol", "ana", "--add", "--yes", "--passkey", f"{args.scene}/passkey.txt", "--council-key", council)
    people = lambda: json.loads(cauldron("people", "list", "--output", "json"))["items"]
    until("the passkey counts", lambda: len(people()[0]["credentials"]) == 2)
    print("ok: a passkey is made on the page and enrolled by the council")

    # The link in a message leads through signing in to the proposal.
    strike("198.51.100.7")
    first = waiting()[0]["id"]
    message = until("a signed webhook tells of it", lambda: receiver.asked(first))
    holds("it names what is asked and of whom", message["target"].endswith("/198.51.100.7") and message["waiting_for"])
    driver.open(message["link"])
    until("signing in comes first", lambda: driver.path() == "/")
    driver.click("button[type=submit]")
    until("the proposal is shown", lambda: driver.path() == f"/approvals/{first}")
    pictures("one")
    print("ok: a signed webhook's link leads through signing in to the proposal")

    # What is shown is what is signed, and the device must know who is there.
    driver.run("document.querySelector('dl.lines dd code').textContent = 'security.address.block on lyon/lyon/blocklist/192.0.2.1'")
    driver.click("button[data-choice=approve]")
    refused("The lines on the page are not the lines to sign")
    driver.open(f"{args.origin}/approvals/{first}")
    driver.run(
        "const list = document.querySelector('dl.lines'); const lines = JSON.parse(list.dataset.lines);"
        "lines[0][1] = 'something else'; list.dataset.lines = JSON.stringify(lines);"
        "list.querySelector('dd code').textContent = 'something else'"
    )
    driver.click("button[data-choice=approve]")
    refused("What this page shows is not what there is to decide any more")
    driver.open(f"{args.origin}/approvals/{first}")
    driver.knows_user(False)
    driver.click("button[data-choice=approve]")
    refused("The passkey was not used")
    driver.knows_user(True)
    audit = json.loads(cauldron("audit", "show", first, "--output", "json"))["items"]
    holds("nothing was signed so far", all(fact["kind"] != "vote" for fact in audit))
    print("ok: a page that was tampered with, and a device that knows nobody, sign nothing")

    # Approved with the key, and it happens.
    begun = time.monotonic()
    driver.type("textarea", "seen in the log")
    driver.click("button[data-choice=approve]")
    until("the effect is there", lambda: blocked("198.51.100.7"))
    until("the page says so by itself", lambda: driver.text("#state") == "Done")
    print(f"ok: approved with the passkey, in effect and shown {time.monotonic() - begun:.1f} s later")
    driver.open(f"{args.origin}/approvals/{first}")
    pictures("done")

    # Whoever comes from another site, such as a chat in the browser, is still signed in.
    driver.open(f"data:text/html,<a href='{args.origin}/approvals/{first}'>look</a>")
    driver.click("a")
    until("the proposal is shown at once", lambda: driver.path() == f"/approvals/{first}")
    print("ok: a link on another site's page leads somebody who is signed in to the proposal")

    # The ten seconds of an approver who is signed in: the message, its link, what is shown, the key, the effect.
    driver.look(PHONE, "dark")
    strike("198.51.100.8")
    second = waiting()[0]["id"]
    message = until("a signed webhook tells of it", lambda: receiver.asked(second))
    begun = time.monotonic()
    driver.open(message["link"])
    until("what is shown names the address", lambda: "198.51.100.8" in (driver.text("dl.lines") or ""))
    driver.shot(f"{shots}/approver-1-asked.png")
    driver.click("button[data-choice=approve]")
    until("the effect is there", lambda: blocked("198.51.100.8"))
    until("the page says so by itself", lambda: driver.text("#state") == "Done")
    until("and who approved", lambda: "Nobody has said anything yet" not in driver.run("return document.body.innerText"))
    took = time.monotonic() - begun
    driver.shot(f"{shots}/approver-2-done.png")
    holds(f"within ten seconds, but it took {took:.1f}", took < 10)
    holds("nobody else signed a message", not receiver.forged)
    print(f"ok: webhook, page, passkey, effect: {took:.1f} s from opening the link to Done on the page")

    # A list is worked through with the keyboard: one signature each.
    strike("203.0.113.4", "203.0.113.5", "203.0.113.6")
    driver.open(f"{args.origin}/approvals")
    pictures("list")
    holds("they are seen as alike", "3" in (driver.text("section.alike h2") or ""))
    holds("three wait for ana", driver.run("return document.querySelectorAll('article.item').length") == 3)
    driver.run("document.querySelector('article.item button[data-choice=approve]').focus()")
    driver.press(ENTER)
    until("one is blocked", lambda: sum(map(blocked, ("203.0.113.4", "203.0.113.5", "203.0.113.6"))) == 1)
    at = "return [...document.querySelectorAll('article.item')].indexOf(document.activeElement.closest('article.item'))"
    until("the next one is under the hands", lambda: driver.run(at) == 1)
    driver.press(ENTER)
    until("two are blocked", lambda: sum(map(blocked, ("203.0.113.4", "203.0.113.5", "203.0.113.6"))) == 2)
    print("ok: a list is worked through with the keyboard, one signature each")

    # What a stranger put into the log is text.
    strike("203.0.113.9", user="invalid user <img/src=x/onerror=document.title='owned'>\u202e")
    third = next(item["id"] for item in waiting() if item["target"].endswith(".9"))
    driver.open(f"{args.origin}/approvals/{third}")
    holds("markup in the log is shown as it stands there", "<img/src=x/onerror" in driver.text(".evidence"))
    holds("and is no markup", driver.run("return document.images.length === 0 && document.title !== 'owned'"))
    driver.click("button[data-choice=deny]")
    until("the page says that it was denied", lambda: driver.text("#state") == "Denied")
    driver.open(f"{args.origin}/status")
    pictures("status")
    driver.click("#sign-out")
    until("nobody is signed in", lambda: driver.path() == "/")
    driver.open(f"{args.origin}/status")
    holds("the session is over", driver.path() == "/")

    # Answers that the page expects to be refused are listed too; what the policy of the page stopped would be.
    severe = [entry["message"] for entry in driver.call("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]
    unexpected = [text for text in severe if "Failed to load resource" not in text]
    holds(f"the browser's console is quiet: {unexpected}", not unexpected)
    print("ok: denied, signed out, and nothing in the browser's console")


if __name__ == "__main__":
    main()
