"""Zip archives that strangers made, read strictly: a plain list of small files, or refused whole with one sentence.

What an archive says of itself is believed nowhere: sizes are counted while inflating, both lists of names must agree,
and no two members may share a byte. Nothing is written to a disk, so a name leads nowhere; odd ones are refused still,
because other programs would follow them. Written archives have no time, owner or order of their own.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from django.utils.translation import gettext as _

from webapp.errors import BadInput, Fault

MOST_BYTES: Final = 5 << 20  # of the archive
MOST_MEMBERS: Final = 100
MOST_INFLATED: Final = 50 << 20  # of all members together
CHUNK: Final = 64 << 10
LOCAL: Final = struct.Struct("<4s5H3I2H")
CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
END: Final = struct.Struct("<4s4H2IH")
ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
UTF8: Final = 0x0800
STORED, DEFLATED = 0, 8
LONGEST_NAME: Final = 255
LONGEST_EXTRA: Final = 4096
FILE_TYPES: Final = (0, 0o100000)  # no type given, or a regular file
EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class Member(NamedTuple):
    """A member as the list at the archive's end tells of it; what it holds is only known once it is inflated."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    at: int


def refused(reason: str) -> BadInput:
    return BadInput([Fault("$.file", reason)])


def read(raw: bytes, *, longest: int) -> dict[str, bytes]:
    """The members by name, each at most `longest` bytes; BadInput for everything else."""
    if len(raw) > MOST_BYTES:
        raise refused(_("is larger than 5 MiB"))
    if not raw.startswith(b"PK\x03\x04"):
        raise refused(_("is no zip archive"))
    members = list(_members(raw))
    _check_names(members)
    found: dict[str, bytes] = {}
    left, end = MOST_INFLATED, 0
    for member in sorted(members, key=lambda each: each.at):
        begin = _begin(raw, member, end)
        end = begin + member.packed
        data, count = _inflated(raw[begin:end], member, left, longest)
        left -= count
        if not member.name.endswith("/"):
            found[member.name] = data
    return {member.name: found[member.name] for member in members if member.name in found}


def _members(raw: bytes) -> Iterator[Member]:
    """The list of members. It must end where the archive does, and hold as many as it says."""
    if len(raw) < END.size or raw[-END.size :][:4] != b"PK\x05\x06":
        raise refused(_("is no whole zip archive, or something follows after it"))
    _sign, disk, disk_of, here, count, length, at, _comment = END.unpack(raw[-END.size :])
    if disk or disk_of or here != count or at + length != len(raw) - END.size:
        raise refused(_("is a zip archive in parts, or its list of members is damaged"))
    if count > MOST_MEMBERS or length > MOST_MEMBERS * (CENTRAL.size + LONGEST_NAME + LONGEST_EXTRA):
        raise refused(_("has more than 100 members"))
    place = at
    for _number in range(count):
        if place + CENTRAL.size > len(raw) - END.size or raw[place : place + 4] != b"PK\x01\x02":
            raise refused(_("has a damaged list of members"))
        head = CENTRAL.unpack(raw[place : place + CENTRAL.size])
        name_length, extra, comment = head[10:13]
        name = raw[place + CENTRAL.size : place + CENTRAL.size + name_length]
        place += CENTRAL.size + name_length + extra + comment
        yield _member(
            name,
            made_by=head[1] >> 8,
            flags=head[3],
            method=head[4],
            numbers=head[7:10],
            attributes=head[15],
            at=head[16],
        )
    if place != len(raw) - END.size:
        raise refused(_("has a damaged list of members"))


def _member(
    raw_name: bytes, *, made_by: int, flags: int, method: int, numbers: tuple[int, ...], attributes: int, at: int
) -> Member:
    name = _name(raw_name)
    if flags & ENCRYPTED:
        raise refused(_("has an encrypted member: %(name)s") % {"name": shown(name)})
    if made_by == 3 and attributes >> 16 & 0o170000 not in (FILE_TYPES if not name.endswith("/") else (0, 0o040000)):
        raise refused(_("has a member that is no plain file (a link or a device): %(name)s") % {"name": shown(name)})
    if method not in (STORED, DEFLATED):
        raise refused(_("has a member packed in a way that is not read here: %(name)s") % {"name": shown(name)})
    crc, packed, size = numbers
    return Member(name, raw_name, flags, method, crc, packed, size, at)


def _name(raw: bytes) -> str:
    """The name of a member: a path of plain parts below the archive; BadInput."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise refused(_("has a member whose name is no text")) from None
    parts = name.removesuffix("/").split("/")
    odd = (
        not name.isprintable()
        or len(raw) > LONGEST_NAME
        or "\\" in name
        or ":" in name
        or any(part in ("", ".", "..") or part != part.strip(" .") for part in parts)
    )
    if odd:
        raise refused(_("has a member whose name leads elsewhere or is odd: %(name)s") % {"name": shown(name)})
    return name


def shown(name: str) -> str:
    """A stranger's name in a sentence."""
    return repr(name if len(name) <= 64 else name[:64] + "…")


def _check_names(members: list[Member]) -> None:
    """No name twice, nor two that are one on a disk that knows no case, nor one that is a folder and a file."""
    seen: set[str] = set()
    for member in members:
        name = member.name.removesuffix("/").casefold()
        if name in seen:
            raise refused(_("has two members of one name: %(name)s") % {"name": shown(member.name)})
        seen.add(name)
        if member.name.endswith("/") and (member.size or member.packed):
            raise refused(_("has a folder that holds bytes: %(name)s") % {"name": shown(member.name)})
    files = {member.name.casefold() for member in members if not member.name.endswith("/")}
    for name in files:
        if any(name[:at] in files for at, letter in enumerate(name) if letter == "/"):
            raise refused(_("has a member that is a file and a folder: %(name)s") % {"name": shown(name)})


def _begin(raw: bytes, member: Member, free: int) -> int:
    """Where the member's bytes begin, behind its own head, which must say what the list says; not before `free`."""
    if member.at < free or member.at + LOCAL.size > len(raw):
        raise refused(_("has members that overlap"))
    head = LOCAL.unpack(raw[member.at : member.at + LOCAL.size])
    name_length, extra = head[9:11]
    begin = member.at + LOCAL.size + name_length + extra
    name = raw[member.at + LOCAL.size : member.at + LOCAL.size + name_length]
    if head[0] != b"PK\x03\x04" or name != member.raw_name or (head[2], head[3]) != (member.flags, member.method):
        raise refused(_("says two different things about a member: %(name)s") % {"name": shown(member.name)})
    if begin + member.packed > len(raw) - END.size:
        raise refused(_("has members that overlap"))
    return begin


def _inflated(packed: bytes, member: Member, left: int, longest: int) -> tuple[bytes, int]:
    """What the member holds, and how many bytes that is; counted as they come, whatever the archive says."""
    kept, count, crc = bytearray(), 0, 0
    for piece in _pieces(packed, member):
        count += len(piece)
        if count > left:
            raise refused(_("unpacks to more than 50 MiB"))
        if count <= longest:
            kept += piece
        crc = zlib.crc32(piece, crc)
    if count > longest:
        words = {"name": shown(member.name), "most": longest >> 10}
        raise refused(_("has a member that is longer than %(most)s KiB: %(name)s") % words)
    if count != member.size or crc != member.crc:
        raise refused(_("has a damaged member: %(name)s") % {"name": shown(member.name)})
    return bytes(kept), count


def _pieces(packed: bytes, member: Member) -> Iterator[bytes]:
    if member.method == STORED:
        for at in range(0, len(packed), CHUNK):
            yield packed[at : at + CHUNK]
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest = packed
    try:
        while not inflater.eof:
            piece = inflater.decompress(rest, CHUNK)
            rest = inflater.unconsumed_tail
            if not piece and not rest and not inflater.eof:
                break
            yield piece
    except zlib.error:
        raise refused(_("has a damaged member: %(name)s") % {"name": shown(member.name)}) from None
    if not inflater.eof or inflater.unused_data:
        raise refused(_("has a damaged member: %(name)s") % {"name": shown(member.name)})


def written(members: Mapping[str, bytes]) -> bytes:
    """An archive of the members in their order: the same members give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()
