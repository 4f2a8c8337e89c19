"""Who is answered by `serve`, and what hostile requests come to."""

import socket
import time

import pytest
from helpers.processes import cxr
from helpers.web import serving, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.serving.web.app import Application
from cxr_keras.serving.web.safety import REFUSALS, is_loopback, name_of
from cxr_keras.serving.web.served import open_runs
from cxr_keras.serving.web.server import serve

TOKEN = "a-token-of-some-letters"


@pytest.fixture(scope="module")
def image(phantoms):
    return next((phantoms / "images").iterdir())


@pytest.fixture(scope="module")
def served(run):
    return open_runs([run.folder], "float32")


@pytest.fixture
def api(served):
    """A server of the test's own: refusals are counted."""
    with serving(Application(served, hosts=["127.0.0.1", "localhost"])) as client:
        yield client


@pytest.fixture(scope="module")
def attacked(served):
    """The one server that many hostile requests reach."""
    with serving(Application(served, hosts=["127.0.0.1", "localhost"])) as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1@evil"])
def test_other_names_of_this_machine_are_refused(api, host):
    """DNS rebinding: a page of evil.example, whose name now leads here."""
    answer = api.get("/v1/model", headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert api.get("/", headers={"Host": host}).status_code in (400, 421)
    assert api.get("/healthz", headers={"Host": f"localhost:{api.port}"}).status_code == 200


def test_pages_of_other_sites_are_refused(api, image):
    own = {"Origin": api.url}
    assert api.post("/v1/predict", image, headers=own).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"{api.url}.evil.example"):
        answer = api.post("/v1/predict", image, headers={"Origin": origin})
        assert answer.status_code == 403
    crossed = {"Sec-Fetch-Site": "cross-site"}
    assert api.get("/v1/results", headers=crossed).status_code == 403
    assert "access-control-allow-origin" not in api.get("/v1/model").headers


def test_a_token_is_demanded_where_there_is_one(served, image):
    with serving(Application(served, hosts=["127.0.0.1"], token=TOKEN)) as client:
        for path in ("/v1/model", "/v1/results", "/metrics", "/openapi.json"):
            for shown in ({}, {"Authorization": "Bearer x"}, {"Authorization": TOKEN}):
                answer = client.get(path, headers=shown)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert client.get(path, headers=right).status_code == 200
        assert client.post("/v1/predict", image).status_code == 401
        assert client.get("/").status_code == client.get("/healthz").status_code == 200


def test_who_is_refused_too_often_hears_no_more_sentences_and_others_go_on(served):
    with serving(Application(served, hosts=["127.0.0.1"], token=TOKEN)) as client:
        codes = [client.get("/v1/model").status_code for _ in range(REFUSALS + 5)]
        assert codes == [401] * REFUSALS + [429] * 5
        assert 0 < int(client.get("/v1/model").headers["retry-after"]) <= 60
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/model", headers=right).status_code == 200


def test_every_answer_has_the_headers_that_keep_a_page_safe(api):
    for path in ("/", "/app.js", "/v1/model", "/nothing"):
        headers = api.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    assert api.get("/app.js").headers["content-type"].startswith("text/javascript")


def test_no_path_of_a_client_is_opened(api, run):
    for path in ("/../cxr_keras/cli.py", "/%2e%2e/%2e%2e/etc/passwd", "/static/app.js", "//etc"):
        assert api.get(path).status_code == 404
    names = ["/etc/passwd", "../../../etc/passwd", str(run.folder / "loss.png"), "a\\b\r\nX: y.png"]
    for name in names:
        (result,) = api.post("/v1/predict", (name, b"nothing")).json()["results"]
        assert result["error"].startswith("not a PNG")
        assert "/" not in result["name"]
    for name in ("/etc/passwd", "../" + run.folder.name, str(run.folder)):
        assert api.get("/v1/results", params={"run": name}).status_code == 404


@settings(max_examples=60)
@given(data=st.data())
def test_hostile_forms_are_refused_or_answered_and_the_server_goes_on(attacked, data):
    head = b'Content-Disposition: form-data; name="files"; filename="f.png"'
    part = b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n"
    body = bytearray(part)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        else:
            body[at] = data.draw(st.integers(0, 255))
    kinds = [
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "multipart/form-data; x=\xff",
    ]
    kind = data.draw(st.sampled_from(kinds)).encode("latin-1")
    answer = attacked.post("/v1/predict", headers={"Content-Type": kind}, data=bytes(body or b"-"))
    assert answer.status_code in (200, 400, 415, 422), answer.text
    assert attacked.get("/healthz").status_code == 200


@settings(max_examples=60)
@given(raw=st.binary(max_size=200))
def test_hostile_bytes_on_the_line_leave_the_server_well(attacked, raw):
    with socket.create_connection(("127.0.0.1", attacked.port), timeout=10) as line:
        line.sendall(raw + b"\r\n\r\n")
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(65536)
    assert not answer.startswith(b"HTTP/1.1 5")
    assert attacked.get("/healthz").status_code == 200


def test_a_sender_that_stops_is_given_up(api, image, monkeypatch):
    monkeypatch.setattr("cxr_keras.serving.web.uploads.PATIENCE", 0.3)
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as line:
        line.sendall(head.encode())
        assert api.post("/v1/predict", image).status_code == 200  # others are answered meanwhile
        begun = time.monotonic()
        assert b"408 Request Timeout" in line.recv(65536)
        assert time.monotonic() - begun < 8


def test_a_length_that_is_not_the_whole_is_refused(api):
    """Transfer-Encoding beside Content-Length would let any number of bytes in."""
    head = (
        f"POST /v1/image HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nContent-Length: 10\r\n"
        "Transfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as line:
        line.sendall(head.encode() + b"5\r\n--b\r\n\r\n")
        answer = line.recv(65536)
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"connection: close" in answer.lower()


def test_a_broken_origin_is_refused_as_any_other(api):
    answer = api.get("/v1/model", headers={"Origin": "http://["})
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


def test_connections_on_which_no_request_comes_are_closed(served, monkeypatch):
    monkeypatch.setattr("cxr_keras.serving.web.server.REQUEST_WITHIN", 0.2)
    with serving(Application(served, hosts=["127.0.0.1"])) as client:
        silent = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(300)]
        wait_for(lambda: client.get("/healthz").status_code == 200)
        for line in silent:
            line.close()


def test_there_is_room_for_so_many_images_and_bytes(api, image, monkeypatch):
    monkeypatch.setattr("cxr_keras.serving.web.batching.MOST_IMAGES", 2)
    answer = api.post("/v1/predict", image, image, image)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert api.post("/v1/predict", image, image).status_code == 200
    monkeypatch.setattr("cxr_keras.serving.web.uploads.MOST_BYTES_AT_ONCE", 100)
    assert api.post("/v1/predict", image).status_code == 503


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
        ("192.168.1.4", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_addresses_that_other_machines_reach(host, local):
    assert is_loopback(host) == local


def test_the_name_in_a_host_header():
    assert name_of("127.0.0.1:80") == "127.0.0.1"
    assert name_of("[::1]:80") == "::1"
    assert name_of("[") == name_of("") == ""


def test_what_cannot_be_served_is_a_sentence(run, tmp_path):
    from helpers.refusals import refusal

    text = refusal(serve, [run.folder], host="0.0.0.0")
    assert "give a --token" in text
    assert "TLS in front" in text
    assert "at least 16" in refusal(serve, [run.folder], token="short")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} of 127.0.0.1" in refusal(serve, [run.folder], port=port)
    assert "Two runs are called" in refusal(serve, [run.folder, run.folder], port=0)
    assert "There is no data folder" in refusal(
        serve, [run.folder], port=0, truth=tmp_path / "none"
    )


def test_the_help_says_how_it_is_kept_safe():
    said = " ".join(cxr("serve", "--help").stdout.split())
    for words in ("--token", "TLS", "--allow-host", "Images stay in memory"):
        assert words in said
