"""A small client of the HTTP API with nothing but the standard library, for tests that look from outside."""

import http.client
import json
import re
import socket
import ssl
import time
import urllib.parse

# Before this many seconds a login is used again.
LOGIN_SECONDS = 30


class Refused(Exception):
    """The API answered with an error."""

    def __init__(self, status, body, headers=None):
        super().__init__(f"HTTP {status}: {body[:400]!r}")
        self.status = status
        self.body = body
        self.headers = headers or {}

    @property
    def message(self):
        """The sentence in the answer's body, whichever form the service gives it."""
        try:
            tree = json.loads(self.body)
        except ValueError:
            return self.body.decode("utf-8", "replace")
        if isinstance(tree, dict):
            for value in [tree, *tree.values()]:
                if isinstance(value, dict) and isinstance(value.get("message"), str):
                    return value["message"]
        return str(tree)


def read_clouds_yaml(path):
    """The login that `apus up` wrote: auth_url, username, password, project_name."""
    with open(path, encoding="utf-8") as file:
        return dict(re.findall(r'^ +(\w+): "?([^"\n]*)"?$', file.read(), re.MULTILINE))


class Transport:
    """One kept connection to one origin; sends a request again once when the server had closed it."""

    def __init__(self, origin, authority=None, timeout=60):
        self.parts = urllib.parse.urlsplit(origin)
        self.timeout = timeout
        self.context = None
        if self.parts.scheme == "https":
            self.context = ssl.create_default_context(cadata=authority)
        self.connection = None

    def _connect(self):
        port = self.parts.port
        if self.context:
            self.connection = http.client.HTTPSConnection(
                self.parts.hostname, port, timeout=self.timeout, context=self.context)
        else:
            self.connection = http.client.HTTPConnection(self.parts.hostname, port, timeout=self.timeout)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method, target, headers, data):
        """Status, headers by lower-case name, body."""
        for attempt in (1, 2):
            fresh = self.connection is None
            try:
                if fresh:
                    self._connect()
                self.connection.request(method, target, body=data, headers=headers)
                answer = self.connection.getresponse()
                body = answer.read()
                if answer.will_close:
                    self.close()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                self.close()
                # A kept connection that the server closed meanwhile says nothing about the request.
                if fresh or attempt == 2:
                    raise
            except BaseException:
                self.close()
                raise
        raise AssertionError("unreachable")

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Client:
    """Logs in when needed; `compute`, `image`, `identity` and `apus` send one request each."""

    def __init__(self, login, authority=None, version="compute 2.37"):
        self.login = login
        self.version = version
        self.base = login["auth_url"].rsplit("/identity", 1)[0]
        self.transport = Transport(self.base, authority)
        self.token = None
        self.login_ends = 0
        # Under which the last request that succeeded is on record.
        self.request_id = None

    def authenticate(self):
        """Gets a token and returns it."""
        user = {"name": self.login["username"], "password": self.login["password"], "domain": {"name": "Default"}}
        scope = {"project": {"name": self.login["project_name"], "domain": {"name": "Default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        status, headers, answer = self.transport.send(
            "POST", self._target("/identity/v3/auth/tokens"), {"Content-Type": "application/json"},
            json.dumps(body).encode())
        if status != 201:
            raise Refused(status, answer, headers)
        self.token = headers["x-subject-token"]
        self.login_ends = time.monotonic() + LOGIN_SECONDS
        return self.token

    def raw(self, method, path, data=None, headers=None, token=True):
        """One request as it stands; an answer of any status. `token`: True for ours, a text for another, None for none."""
        sent = {"OpenStack-API-Version": self.version}
        if token is True:
            if self.token is None or time.monotonic() > self.login_ends:
                self.authenticate()
            sent["X-Auth-Token"] = self.token
        elif token:
            sent["X-Auth-Token"] = token
        if data is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        return self.transport.send(method, self._target(path), sent, data)

    def request(self, method, path, body=None, token=True):
        """The answer's JSON, or None; raises Refused for anything but success."""
        data = None if body is None else json.dumps(body).encode()
        status, headers, answer = self.raw(method, path, data, token=token)
        if not 200 <= status < 300:
            raise Refused(status, answer, headers)
        self.request_id = headers.get("x-openstack-request-id")
        return json.loads(answer) if answer else None

    def compute(self, method, path, body=None):
        return self.request(method, "/compute/v2.1" + path, body)

    def image(self, method, path, body=None):
        return self.request(method, "/image/v2" + path, body)

    def identity(self, method, path, body=None):
        return self.request(method, "/identity/v3" + path, body)

    def apus(self, method, path, body=None):
        return self.request(method, "/apus/v1" + path, body)

    def find(self, server):
        """The server, or None when it is gone."""
        try:
            return self.compute("GET", f"/servers/{server}")["server"]
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def act(self, server, action, argument=None):
        """One action on a server; what it answers."""
        return self.compute("POST", f"/servers/{server}/action", {action: argument})

    def tasks(self, server=None):
        """What is under way, for one server or for all."""
        return self.apus("GET", "/tasks" + (f"?instance={server}" if server else ""))["tasks"]

    def servers(self):
        return self.compute("GET", "/servers/detail?all_tenants=1")["servers"]

    def flavor(self, name):
        return next(f for f in self.compute("GET", "/flavors/detail")["flavors"] if f["name"] == name)

    def hypervisors(self):
        return self.compute("GET", "/os-hypervisors/detail")["hypervisors"]

    def create(self, name, image, flavor, networks="auto"):
        """Asks for a server; its id."""
        body = {"name": name, "imageRef": image, "flavorRef": flavor, "networks": networks}
        return self.compute("POST", "/servers", {"server": body})["server"]["id"]

    def make_image(self, name, path, disk_format="qcow2", **fields):
        """Makes an image record and uploads a file; its id. A refused upload leaves the record."""
        fields = {"name": name, "disk_format": disk_format, "container_format": "bare", **fields}
        identifier = self.image("POST", "/images", fields)["id"]
        self.upload(identifier, path)
        return identifier

    def upload(self, identifier, path):
        with open(path, "rb") as file:
            data = file.read()
        status, headers, answer = self.raw(
            "PUT", f"/image/v2/images/{identifier}/file", data, {"Content-Type": "application/octet-stream"})
        if status != 204:
            raise Refused(status, answer, headers)

    def as_user(self, name, password, project):
        """The same cloud for another person."""
        login = {**self.login, "username": name, "password": password, "project_name": project}
        other = Client(login, version=self.version)
        other.transport.context = self.transport.context
        return other

    def _target(self, path):
        return urllib.parse.urlsplit(self.base).path.rstrip("/") + path
