"""Misbehaviours of a gateway by name: functions of the connection and the right answer."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

from reconciler.content import varint
from reconciler.content.cid import RAW, hash_block
from tests.support.scripted_gateway import Answer, Behaviour, drip, head_of, honest, reply, send

MIB = 1 << 20


_BOMB = gzip.compress(bytes(64 * MIB))  # twice the memory limit of the test


def _status(status: str, body: bytes = b"no") -> Behaviour:
    return lambda connection, _: send(connection, body, status=status)


def _head(*lines: str, body: bytes = b"") -> Behaviour:
    def say(connection: BinaryIO, answer: Answer) -> None:
        head = "\r\n".join(line.replace("HEAD", head_of(answer).rstrip()) for line in lines)
        connection.write(head.encode() + b"\r\n\r\n" + body)
        connection.close()

    return say


def _redirect(target: str) -> Behaviour:
    return _head("HTTP/1.1 302 Found", f"Location: {target}", "Content-Length: 0")


def _cut_at(share: float) -> Behaviour:
    def say(connection: BinaryIO, answer: Answer) -> None:
        reply(connection, answer, answer.body[: int(len(answer.body) * share)], len(answer.body))
        connection.close()

    return say


def _flipped(at: float) -> Behaviour:
    def say(connection: BinaryIO, answer: Answer) -> None:
        body = bytearray(answer.body)
        body[min(len(body) - 1, int(len(body) * at))] ^= 1
        reply(connection, answer, bytes(body))

    return say


def _endless(connection: BinaryIO, answer: Answer) -> None:
    connection.write((head_of(answer) + "\r\n").encode() + answer.body)
    for _ in range(4096):
        connection.write(bytes(MIB))


def _endless_chunks(connection: BinaryIO, answer: Answer) -> None:
    connection.write((head_of(answer) + "Transfer-Encoding: chunked\r\n\r\n").encode())
    for _ in range(4096):
        connection.write(b"100000\r\n" + bytes(MIB) + b"\r\n")


def _endless_head(connection: BinaryIO, _: Answer) -> None:
    connection.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        connection.write(f"X-{number}: {'y' * 1000}\r\n".encode())


def _gzip_bomb(connection: BinaryIO, answer: Answer) -> None:
    body = _BOMB
    connection.write((head_of(answer, length=len(body)) + "Content-Encoding: gzip\r\n\r\n").encode() + body)


def _silent(connection: BinaryIO, _: Answer) -> None:
    time.sleep(3)
    connection.close()


def _silent_midway(connection: BinaryIO, answer: Answer) -> None:
    reply(connection, answer, answer.body[: len(answer.body) // 2], len(answer.body))
    connection.flush()
    time.sleep(3)
    connection.close()


def _closed(connection: BinaryIO, _: Answer) -> None:
    connection.close()


#: for single blocks, CARs and bytes of a file
ANY: dict[str, Behaviour] = {
    "other bytes": lambda c, a: reply(c, a, bytes(len(a.body))),
    "one bit at the start": _flipped(0),
    "one bit in the middle": _flipped(0.5),
    "one bit at the end": _flipped(1),
    "nothing": lambda c, a: reply(c, a, b""),
    "one byte too few": lambda c, a: reply(c, a, a.body[:-1]),
    "cut at the start": _cut_at(0),
    "cut in the middle": _cut_at(0.5),
    "cut before the end": _cut_at(0.99),
    "closed at once": _closed,
    "never an answer": _silent,
    "silent midway": _silent_midway,
    "slow drip": drip,
    "endless": _endless,
    "endless chunks": _endless_chunks,
    "endless head": _endless_head,
    "gzip bomb": _gzip_bomb,
    "a web page": lambda c, _: send(c, b"<html>Welcome</html>", kind="text/html"),
    "a longer length than it sends": lambda c, a: (reply(c, a, a.body, len(a.body) + 10), c.close())[0],
    "a negative length": _head("HEAD", "Content-Length: -1"),
    "a length that is a word": _head("HEAD", "Content-Length: many"),
    "two lengths": _head("HEAD", "Content-Length: 3", "Content-Length: 4", body=b"abcd"),
    "a huge length": _head("HEAD", f"Content-Length: {1 << 62}", body=b"x"),
    "a bad chunk": _head("HEAD", "Transfer-Encoding: chunked", body=b"zz\r\nhello\r\n"),
    "a huge chunk": _head("HEAD", "Transfer-Encoding: chunked", body=b"f" * 60 + b"\r\nx"),
    "no HTTP": _head("SSH-2.0-OpenSSH_9.6"),
    "a broken status line": _head("HTTP/1.1 OK 200"),
    "a redirect to a private address": _redirect("http://169.254.169.254/latest/meta-data/"),
    "a redirect to a file": _redirect("file:///etc/passwd"),
    "a redirect to itself": _redirect("/ipfs/"),
    "a redirect elsewhere": _redirect("http://127.0.0.1:1/"),
    "partial content": _status("206 Partial Content"),
    "no content": _status("204 No Content", b""),
    "bad request": _status("400 Bad Request"),
    "unauthorized": _status("401 Unauthorized"),
    "payment": _status("402 Payment Required"),
    "forbidden": _status("403 Forbidden"),
    "not found": _status("404 Not Found"),
    "not acceptable": _status("406 Not Acceptable"),
    "gone": _status("410 Gone"),
    "for legal reasons": _status("451 Unavailable For Legal Reasons"),
    "too many requests": _head("HTTP/1.1 429 Too Many", "Retry-After: 86400", "Content-Length: 0"),
    "broken": _status("500 Internal Server Error"),
    "not implemented": _status("501 Not Implemented"),
    "bad gateway": _status("502 Bad Gateway", b"<html>nginx</html>"),
    "gateway timeout": _status("504 Gateway Timeout"),
}

#: for single blocks only
RAW_ONLY: dict[str, Behaviour] = {
    "one byte too many": lambda c, a: reply(c, a, a.body + b"x"),
    "another good block": lambda c, a: reply(c, a, b"a good block of another request"),
    "a CAR of it": lambda c, a: reply(c, a, _section(a.body)),
    "twice": lambda c, a: reply(c, a, a.body * 2),
    "text of the CID": lambda c, a: reply(c, a, str(a.cid).encode()),
    "two MiB and one byte": lambda c, a: reply(c, a, bytes(2 * MIB + 1)),
}


def _section(data: bytes, cid: bytes | None = None) -> bytes:
    body = (bytes(hash_block(RAW, data)) if cid is None else cid) + data
    return varint.encode(len(body)) + body


def _header_end(car: bytes) -> int:
    length, end = varint.decode(car)
    return end + length


def _after_header(extra: bytes) -> Behaviour:
    def say(connection: BinaryIO, answer: Answer) -> None:
        end = _header_end(answer.body)
        reply(connection, answer, answer.body[:end] + extra + answer.body[end:])

    return say


def _with_header(header: bytes) -> Behaviour:
    def say(connection: BinaryIO, answer: Answer) -> None:
        rest = answer.body[_header_end(answer.body) :]
        reply(connection, answer, varint.encode(len(header)) + header + rest)

    return say


def _last_section(car: bytes) -> int:
    """Return the offset of the last section."""
    at = end = _header_end(car)
    while end < len(car):
        at = end
        length, end = varint.decode(car, end)
        end += length
    return at


_IDENTITY = b"\x01\x55\x00"
_SHA512 = b"\x01\x55\x13\x40" + hashlib.sha512(b"data").digest()
_LINK = b"\xd8\x2a\x58\x25\x00" + bytes(hash_block(RAW, b"x"))

#: for CARs only
CAR_ONLY: dict[str, Behaviour] = {
    "a CARv2": _with_header(b"\xa1\x67version\x02"),
    "no roots": _with_header(b"\xa2\x65roots\x80\x67version\x01"),
    "two roots": _with_header(b"\xa2\x65roots\x82" + _LINK * 2 + b"\x67version\x01"),
    "another root": _with_header(b"\xa2\x65roots\x81" + _LINK + b"\x67version\x01"),
    "a header of rubbish": _with_header(b"rubbish" * 9),
    "a huge header": lambda c, a: reply(c, a, varint.encode(1 << 40) + a.body),
    "a huge varint": _after_header(b"\xff" * 9 + b"\x01"),
    "an endless varint": _after_header(b"\xff" * 4096),
    "a huge section": _after_header(varint.encode(1 << 40)),
    "an empty section": _after_header(b"\0"),
    "a block of three MiB": _after_header(_section(bytes(3 * MIB))),
    "an identity CID": _after_header(_section(b"", _IDENTITY + b"\x05hello")),
    "an identity CID too long": _after_header(_section(b"", _IDENTITY + b"\xff\x7f" + bytes(16383))),
    "a sha2-512 CID": _after_header(_section(b"data", _SHA512)),
    "a CIDv0": _after_header(_section(b"data", b"\x12\x20" + hashlib.sha256(b"data").digest())),
    "wrong bytes under a right CID": _after_header(_section(b"wrong", bytes(hash_block(RAW, b"right")))),
    "a hundred stray blocks": _after_header(b"".join(_section(bytes([n])) for n in range(100))),
    "a thousand times the same stray block": _after_header(_section(b"again") * 1000),
    "the last block missing": lambda c, a: reply(c, a, a.body[: _last_section(a.body)]),
    "only the header": lambda c, a: reply(c, a, a.body[: _header_end(a.body)]),
    "the last block first": lambda c, a: reply(
        c,
        a,
        a.body[: _header_end(a.body)]
        + a.body[_last_section(a.body) :]
        + a.body[_header_end(a.body) : _last_section(a.body)],
    ),
    "everything twice": lambda c, a: reply(c, a, a.body + a.body[_header_end(a.body) :]),
    "zeros behind it": lambda c, a: reply(c, a, a.body + bytes(100)),
    "another type": lambda c, a: send(c, a.body, kind="application/octet-stream"),
}


def _of_span(change: Callable[[Answer], Answer]) -> Behaviour:
    return lambda connection, answer: honest(connection, change(answer))


def _moved(span: str, by: int) -> str:
    numbers, _, size = span.removeprefix("bytes ").partition("/")
    first, last = (int(number) + by for number in numbers.split("-"))
    return f"bytes {first}-{last}/{size}"


#: for bytes of a file only
FILE_ONLY: dict[str, Behaviour] = {
    "one byte too many": lambda c, a: reply(c, a, a.body + b"x"),
    "twice": lambda c, a: reply(c, a, a.body * 2),
    "the range ignored": _of_span(lambda a: replace(a, span="")),
    "another range": _of_span(lambda a: replace(a, span=_moved(a.span, 1))),
    "another range's bytes": _of_span(lambda a: replace(a, body=a.body[1:] + a.body[:1])),
    "several ranges": lambda c, a: reply(c, replace(a, kind="multipart/byteranges; boundary=x"), a.body),
    "no range at all": _of_span(lambda a: replace(a, span="bytes */*")),
    "a unit of its own": _of_span(lambda a: replace(a, span=a.span.replace("bytes", "blocks"))),
    "a CAR of it": lambda c, a: reply(c, a, _section(a.body)),
    "not satisfiable": _status("416 Range Not Satisfiable"),
}
