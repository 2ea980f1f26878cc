"""A small client of the HTTP API with nothing but the standard library, for tests that look from outside."""

import json
import re
import urllib.error
import urllib.request


class Refused(Exception):
    """The API answered with an error."""

    def __init__(self, status, body):
        super().__init__(f"HTTP {status}: {body[:300]!r}")
        self.status = status
        self.body = body


def read_clouds_yaml(path):
    """The login that `apus up` wrote: auth_url, username, password, project_name."""
    with open(path, encoding="utf-8") as file:
        return dict(re.findall(r'^ +(\w+): "?([^"\n]*)"?$', file.read(), re.MULTILINE))


class Client:
    """Logs in once; `compute`, `image` and `apus` send one request each."""

    def __init__(self, login, send=None):
        self.login = login
        self.send = send or self._send
        self.token = None
        self.endpoints = {}

    def authenticate(self):
        user = {"name": self.login["username"], "password": self.login["password"], "domain": {"name": "Default"}}
        scope = {"project": {"name": self.login["project_name"], "domain": {"name": "Default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        status, headers, answer = self.send("POST", self.login["auth_url"] + "/auth/tokens", {}, body)
        if status != 201:
            raise Refused(status, answer)
        self.token = headers["x-subject-token"]
        for entry in json.loads(answer)["token"]["catalog"]:
            for endpoint in entry["endpoints"]:
                if endpoint["interface"] == "public":
                    self.endpoints[entry["type"]] = endpoint["url"].rstrip("/")

    def request(self, method, url, body=None):
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": "compute 2.37"}
        status, _, answer = self.send(method, url, headers, body)
        if not 200 <= status < 300:
            raise Refused(status, answer)
        return json.loads(answer) if answer else None

    def compute(self, method, path, body=None):
        if self.token is None:
            self.authenticate()
        return self.request(method, self.endpoints["compute"] + path, body)

    def image(self, method, path, body=None):
        if self.token is None:
            self.authenticate()
        return self.request(method, self.endpoints["image"] + "/v2" + path, body)

    def find(self, server):
        """The server, or None when it is gone."""
        try:
            return self.compute("GET", f"/servers/{server}")["server"]
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    @staticmethod
    def _send(method, url, headers, body):
        data = None
        headers = dict(headers)
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()
