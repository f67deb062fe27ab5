# Bitwarden's own SDK against a stand-in for Bitwarden, beside a service that says what bitwarden-sdk-server would make of it:
# TOKEN ORGANIZATION PROJECT OTHER_PROJECT LOCKED LOST WORDS [STATUS]. Both are asked the same, in the SDK's own requests, and what they
# answer is printed under "sdk" and "fake". LOCKED is the id of a secret that cannot be deleted, LOST that of one that cannot be read,
# WORDS stand in what Bitwarden refuses; with STATUS (503) it refuses all but logins.
import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import multiprocessing
import os
import ssl
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import jwt
import requests
from bitwarden_sdk import BitwardenClient, ClientSettings, Command, DeviceType, SecretCreateRequest, SecretGetRequest
from bitwarden_sdk import SecretIdentifiersRequest, SecretPutRequest, SecretsCommand, SecretsDeleteRequest, SecretsGetRequest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

url, token, organization, project, other_project, locked, lost, words, *refused = sys.argv[1:]
ELSEWHERE = "00000000-0000-4000-8000-0000000000ff"
# AES-256, then HMAC-SHA256.
ORGANIZATION_KEY = os.urandom(64)
WHEN = "2026-01-02T03:04:05.1234567Z"

# What bitwarden-sdk-server calls for a command of the SDK, and says before the SDK's words if that fails.
SERVER = {
    "list": ("GET", "secrets", "failed to get secret: "),
    "get": ("GET", "secret", "failed to get secret: "),
    "get_by_ids": ("GET", "secrets-by-ids", "failed to get secrets: "),
    "create": ("POST", "secret", "failed to create secret: "),
    "update": ("PUT", "secret", "failed to update secret: "),
    "delete": ("DELETE", "secret", ""),
}
LOGIN = "failed to login to bitwarden using access token: bitwarden login: "


def encoded(data):
    return base64.b64encode(data).decode()


def key_of(access_token):
    secret = base64.b64decode(access_token.split(":")[1])
    derived = hmac.digest(b"bitwarden-accesstoken", secret, hashlib.sha256)
    return HKDFExpand(hashes.SHA256(), 64, b"sm-access-token").derive(derived)


def encrypted(key, text):
    padder = padding.PKCS7(128).padder()
    iv = os.urandom(16)
    cipher = Cipher(algorithms.AES(key[:32]), modes.CBC(iv)).encryptor()
    data = cipher.update(padder.update(text.encode()) + padder.finalize()) + cipher.finalize()
    return f"2.{encoded(iv)}|{encoded(data)}|{encoded(hmac.digest(key[32:], iv + data, hashlib.sha256))}"


def decrypted(key, text):
    iv, data, mac = (base64.b64decode(part) for part in text.removeprefix("2.").split("|"))
    assert hmac.compare_digest(mac, hmac.digest(key[32:], iv + data, hashlib.sha256))
    cipher = Cipher(algorithms.AES(key[:32]), modes.CBC(iv)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return (unpadder.update(cipher.update(data) + cipher.finalize()) + unpadder.finalize()).decode()


def secret_id(number):
    """Counted, as the other service counts."""
    return f"00000000-0000-4000-8000-{number:012x}"


class Refused(Exception):
    """With the status and the answer."""


class Bitwarden(BaseHTTPRequestHandler):
    """Bitwarden's identity service and API, as far as the SDK calls them; what is encrypted is stored as it comes."""

    secrets = {}
    made = 0

    def log_message(self, *_):
        pass

    def handle_call(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        try:
            status, answer = 200, self.answer(self.path.strip("/").split("/"), body)
        except Refused as refusal:
            status, answer = refusal.args
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = handle_call

    def answer(self, path, body):
        if path == ["connect", "token"]:
            return self.login({name: value for name, [value] in parse_qs(body).items()})
        claims = jwt.decode(self.headers["authorization"].removeprefix("Bearer "), ORGANIZATION_KEY, ["HS256"])
        if refused:
            self.refuse(int(refused[0]))
        match [self.command, *path], body and json.loads(body):
            case ["GET", "organizations", of, "secrets"], _ if of == claims["organization"]:
                # The SDK asks for no more of a listed secret.
                listed = [{name: s[name] for name in ["id", "organizationId", "key", "projects"]} for s in self.secrets.values()]
                return {"object": "SecretsWithProjectsList", "secrets": listed, "projects": []}
            case ["POST", "organizations", of, "secrets"], secret if of == claims["organization"]:
                made = self.keep(secret_id(Bitwarden.made + 1), secret)
                Bitwarden.made += 1
                return made
            case ["POST", "secrets", "get-by-ids"], asked:
                return {"object": "list", "data": self.all_of([id for id in asked["ids"] if id != lost], len(asked["ids"]))}
            case ["POST", "secrets", "delete"], ids:
                gone = [secret["id"] for secret in self.all_of(ids, len(ids))]
                errors = {id: f"access denied {words}" if id == locked else None for id in gone}
                for id in gone:
                    if id != locked:
                        del self.secrets[id]
                data = [{"object": "BulkDeleteResponseModel", "id": id, "error": error} for id, error in errors.items()]
                return {"object": "list", "data": data}
            case ["GET", "secrets", id], _ if id in self.secrets and id != lost:
                return self.secrets[id]
            case ["PUT", "secrets", id], secret if id in self.secrets:
                return self.keep(id, secret)
        self.refuse(404)

    def login(self, form):
        expected = {"grant_type": "client_credentials", "scope": "api.secrets"}
        _, expected["client_id"], expected["client_secret"] = token.split(":")[0].split(".")
        if form != expected:
            raise Refused(400, {"error": "invalid_client", "error_description": words})
        claims = {"exp": int(time.time()) + 600, "sub": form["client_id"], "organization": organization, "scope": ["api.secrets"]}
        payload = json.dumps({"encryptionKey": encoded(ORGANIZATION_KEY)})
        return {
            "access_token": jwt.encode(claims, ORGANIZATION_KEY),
            "expires_in": 600,
            "token_type": "Bearer",
            "scope": "api.secrets",
            "encrypted_payload": encrypted(key_of(token), payload),
        }

    def all_of(self, ids, count):
        found = [secret for id, secret in self.secrets.items() if id in ids]
        return found if found and len(found) == count else self.refuse(404)

    def keep(self, id, secret):
        projects = secret["projectIds"] or []
        if not projects or not {*projects} <= {project, other_project}:
            self.refuse(404)
        texts = {name: secret[name] for name in ["key", "value", "note"]}
        for text in texts.values():
            decrypted(ORGANIZATION_KEY, text)
        shown = [{"id": id, "name": encrypted(ORGANIZATION_KEY, "project")} for id in projects]
        kept = {"object": "secret", "id": id, "organizationId": organization, "projects": shown, "creationDate": WHEN}
        self.secrets[id] = {**kept, **texts, "revisionDate": WHEN, "read": True, "write": True}
        return self.secrets[id]

    @staticmethod
    def refuse(status):
        nothing = ["validationErrors", "exceptionMessage", "exceptionStackTrace", "innerExceptionMessage"]
        raise Refused(status, {"message": words, **dict.fromkeys(nothing), "object": "error"})


def identity(path):
    """A key and its own certificate, for the SDK to trust: it takes no address without TLS."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a stand-in for Bitwarden")])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = certificate.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    with open(path, "xb") as file:
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        file.write(certificate.public_bytes(pem))


def told(error):
    """An error, and apart from it the JSON that it quotes."""
    text, quote, body = error.partition("] {")
    return [f"{text}]", json.loads("{" + body)] if quote else [error.strip()]


def without_nulls(answer):
    """As Go writes the SDK's answers: what is not there is left out."""
    if isinstance(answer, dict):
        return {name: without_nulls(value) for name, value in answer.items() if value is not None}
    return [without_nulls(value) for value in answer] if isinstance(answer, list) else answer


def sdk(server, access_token, command, request):
    """bitwarden-sdk-server: a login for each request, the SDK's request in, its answer out."""
    before = LOGIN
    try:
        client = BitwardenClient(ClientSettings(api_url=server, identity_url=server, device_type=DeviceType.SDK))
        client.auth().login_access_token(access_token)
        before = SERVER[command][2]
        answer = client._run_command(Command(secrets=SecretsCommand(**{command: request})))
        return [200, without_nulls(answer["data"])]
    except Exception as error:
        return [400, *told(f"{before}API error: {error}")]


def fake(access_token, command, request):
    method, endpoint, _ = SERVER[command]
    headers = {"warden-access-token": access_token}
    answer = requests.request(method, f"{url}/rest/api/1/{endpoint}", json=request.to_dict(), headers=headers, timeout=10)
    assert answer.headers["content-type"].startswith("text/plain"), answer.headers
    return [answer.status_code, answer.json()] if answer.ok else [answer.status_code, *told(answer.text)]


def create(key, value="1", note="", project_ids=(project,), of=organization):
    return ("create", SecretCreateRequest(key, note, of, value, list(project_ids)))


def update(id, key, value="2", note="", project_ids=(project,)):
    return ("update", SecretPutRequest(id, key, note, organization, value, list(project_ids)))


listing = ("list", SecretIdentifiersRequest(organization))
account, key = token.split(":")
_, account_id, account_secret = account.split(".")
# With another access token than the right one.
LOGINS = {
    "no key": account,
    "too few parts": f"{account_id}.{account_secret}:{key}",
    "another version": f"1.{account_id}.{account_secret}:{key}",
    "no id": f"0.machine.{account_secret}:{key}",
    "no base64": f"{account}:{key[:-2]}!!",
    "a short key": f"{account}:AAAA",
    "another key": f"{account}:{encoded(b'another-key-here')}",
    "another secret": f"0.{account_id}.another:{key}",
}
STEPS = {
    "nothing": listing,
    "create": create(" A ", note=" by hand\n"),
    "another project": create("B", note="n", project_ids=[other_project]),
    "locked": create("C"),
    "lost": create("D"),
    "no project": create("E", project_ids=[]),
    "an unknown project": create("E", project_ids=[ELSEWHERE]),
    "elsewhere": create("E", of=ELSEWHERE),
    "an empty name": create(""),
    "a blank name": create(" "),
    "a long name": create("k" * 501),
    "an empty value": create("E", value=""),
    "a blank value": create("E", value=" "),
    "a long value": create("F", value="v" * 25001),
    "a blank note": create("F", note="\n"),
    "a long note": create("F", note="n" * 7001),
    "list": listing,
    "list in capitals": ("list", SecretIdentifiersRequest(organization.upper())),
    "list elsewhere": ("list", SecretIdentifiersRequest(ELSEWHERE)),
    "list of no id": ("list", SecretIdentifiersRequest("mine")),
    "get": ("get", SecretGetRequest(secret_id(1))),
    "get a missing one": ("get", SecretGetRequest(ELSEWHERE)),
    "get a lost one": ("get", SecretGetRequest(lost)),
    "get by no id": ("get", SecretGetRequest("A")),
    "get two": ("get_by_ids", SecretsGetRequest([secret_id(2), secret_id(1)])),
    "get none": ("get_by_ids", SecretsGetRequest([])),
    "get one twice": ("get_by_ids", SecretsGetRequest([secret_id(1), secret_id(1)])),
    "get one and a missing one": ("get_by_ids", SecretsGetRequest([secret_id(1), ELSEWHERE])),
    "get one and a lost one": ("get_by_ids", SecretsGetRequest([secret_id(1), lost])),
    "update": update(secret_id(1), " A2\n", note=" other "),
    "move": update(secret_id(1), "A2", project_ids=[other_project]),
    "update to nothing": update(secret_id(1), "A2", value=""),
    "update a missing one": update(ELSEWHERE, "A"),
    "delete": ("delete", SecretsDeleteRequest([locked, secret_id(1)])),
    "delete one that is gone": ("delete", SecretsDeleteRequest([secret_id(1)])),
    "delete one and a missing one": ("delete", SecretsDeleteRequest([secret_id(2), ELSEWHERE])),
    "delete none": ("delete", SecretsDeleteRequest([])),
    "left": listing,
}
if refused:
    LOGINS, STEPS = {}, {command: STEPS[command] for command in ["list", "get"]}

with tempfile.TemporaryDirectory() as directory:
    os.environ["SSL_CERT_FILE"] = f"{directory}/identity.pem"
    identity(os.environ["SSL_CERT_FILE"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(os.environ["SSL_CERT_FILE"])
    listener = HTTPServer(("127.0.0.1", 0), Bitwarden)
    listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    # A process of its own: while the SDK waits, nothing else of this one runs.
    multiprocessing.get_context("fork").Process(target=listener.serve_forever, daemon=True).start()
    bitwarden = f"https://127.0.0.1:{listener.server_port}"
    said = {
        "sdk": {name: sdk(bitwarden, other, *listing) for name, other in LOGINS.items()},
        "fake": {name: fake(other, *listing) for name, other in LOGINS.items()},
    }
    for name, step in STEPS.items():
        said["sdk"][name] = sdk(bitwarden, token, *step)
        said["fake"][name] = fake(token, *step)
    listener.socket.close()
    # Nothing listens there.
    said["out of reach"] = sdk("https://127.0.0.1:1", token, *listing)
print(json.dumps(said))
