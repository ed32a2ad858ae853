"""`/v1/files`: bytes for batches. The rows are in the store, the bytes in the blob store."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from events import ids
from functions.ingress import request_body
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer
from functions.ingress.idempotency import read_key_use, resolve_claim
from functions.ingress.list_pages import QUERY, answer_page, parse_page
from functions.ingress.tenant_access import authenticate, load_own, not_found
from functions.ports.store import FileRow
from functions.runtime.errors import ApiError, BlobMissing

PURPOSES: Final = frozenset({"batch", "user_data", "assistants", "fine-tune", "evals", "vision"})
OUR_PURPOSES: Final = frozenset({"batch_output"})
"""What no upload may have: of files that batches end with."""
MAX_LIMIT: Final = 10_000
"""Most files in one page, as OpenAI has it."""
FORM_SPARE_BYTES: Final = 64 * 1024
"""Room for the form around the file."""
FORM: Final = "multipart/form-data"
MAX_FIELDS: Final = 8
ANCHOR: Final = "expires_after[anchor]"
SECONDS: Final = "expires_after[seconds]"
FIELDS: Final = frozenset({"file", "purpose", ANCHOR, SECONDS})
EXPIRY_S: Final = (3600, 2_592_000)
"""Shortest and longest life of a file that has one, as OpenAI has them."""
MAX_NAME_CHARS: Final = 255
_IN_FORMS: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""How forms write what cannot stand in a quoted name (WHATWG, multipart/form-data)."""


async def upload(deps: Dependencies, request: Request) -> Response:
    tenant = authenticate(deps, request)
    request_body.require_media_type(request, (FORM,))
    async with _place(deps, tenant):
        upload = await _read_form(deps, request)
    return answer(show(await _keep(deps, request, tenant, upload)))


async def list_files(deps: Dependencies, request: Request) -> Response:
    tenant, purpose = authenticate(deps, request), _parse_purpose(request)
    page = parse_page(request, most=MAX_LIMIT)
    read = deps.offload(deps.store.files, tenant, page, purpose)
    return await answer_page(read, show, lambda row: row.id)


async def retrieve(deps: Dependencies, request: Request) -> Response:
    return answer(show(await load_own_file(deps, request)))


async def delete(deps: Dependencies, request: Request) -> Response:
    row = await load_own_file(deps, request)
    # The bytes may be another file's too (blobs are named by content): the recorder sweeps what no file has.
    if not await deps.offload(deps.store.delete_file, row.id):
        await load_own(deps, row.tenant, deps.store.file, row.id)
        raise ApiError("file_in_use", "A batch reads this file; delete it when that has ended.")
    return answer({"id": row.id, "object": "file", "deleted": True})


async def retrieve_content(deps: Dependencies, request: Request) -> Response:
    row = await load_own_file(deps, request)
    return await _content(deps, row)


def _parse_purpose(request: Request) -> str | None:
    """The purpose that a list is of; None: all.

    Raises:
        ApiError: `invalid_value`.
    """
    purpose = request.query_params.get("purpose") or None
    if purpose is not None and purpose not in {*PURPOSES, *OUR_PURPOSES}:
        allowed = ", ".join(sorted({*PURPOSES, *OUR_PURPOSES}))
        raise ApiError("invalid_value", f"purpose is one of: {allowed}.", param="purpose")
    return purpose


async def load_own_file(deps: Dependencies, request: Request) -> FileRow:
    """The file named in the path.

    Raises:
        ApiError: `not_found`.
    """
    tenant = authenticate(deps, request)
    return await load_own(deps, tenant, deps.store.file, request.path_params["file_id"])


def show(row: FileRow) -> dict[str, object]:
    """A file in OpenAI's shape."""
    shown: dict[str, object] = {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created_at.timestamp()),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
    }
    if row.expires_at is not None:
        shown["expires_at"] = int(row.expires_at.timestamp())
    return shown


def _clean_name(given: str | None) -> str:
    """The file's name as its owner sees it again: any text without control characters, which become `_`."""
    name = given or "file"
    for written, char in _IN_FORMS.items():
        name = name.replace(written, char)
    return "".join(char if char.isprintable() else "_" for char in name[:MAX_NAME_CHARS])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    filename: str
    purpose: str
    bytes: int
    ref: str
    lives_s: int | None


@contextlib.asynccontextmanager
async def _place(deps: Dependencies, tenant: str) -> AsyncIterator[None]:
    """One of the places for uploads, as soon as the tenant's share has one."""
    places, share = deps.settings.ingress.max_uploads, deps.tenant_share
    await deps.uploads.enter(tenant, 1, room=places, share=share)
    try:
        yield
    finally:
        deps.uploads.leave(tenant, 1)


async def _content(deps: Dependencies, row: FileRow) -> Response:
    """The bytes, piece by piece as they are taken: many slow readers of a large file hold little of it."""
    pieces = deps.blobs.pieces(row.ref, limit_bytes=row.bytes)
    try:
        first = await deps.offload(next, pieces, b"")
    except BlobMissing as error:
        raise not_found() from error

    async def body() -> AsyncIterator[bytes]:
        piece = first
        try:
            while piece:
                yield piece
                piece = await deps.offload(next, pieces, b"")
        finally:
            with contextlib.suppress(ValueError):  # a thread reads: it is closed when that is done
                pieces.close()

    # Never shown by a browser as a page of ours, whatever is in it.
    headers = {
        "content-disposition": "attachment",
        "content-length": str(row.bytes),
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(body(), 200, headers, "application/octet-stream")


async def _read_form(deps: Dependencies, request: Request) -> _Upload:
    limit = deps.settings.ingress.max_file_bytes
    bounded = Request(
        request.scope,
        request_body.BoundedReceive(
            request.receive,
            limit=limit + FORM_SPARE_BYTES,
            idle_s=deps.settings.ingress.body_read_s,
            bytes_s=deps.settings.ingress.upload_bytes_s,
        ),
    )
    try:
        async with bounded.form(max_files=1, max_fields=MAX_FIELDS) as form:
            request_body.refuse_unknown(form, FIELDS)
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise ApiError(
                    "invalid_value", "Send the file in the form field 'file'.", param="file"
                )
            if not isinstance(purpose, str) or purpose not in PURPOSES:
                allowed = ", ".join(sorted(PURPOSES))
                raise ApiError("invalid_value", f"purpose is one of: {allowed}.", param="purpose")
            lives_s = _parse_lifetime(form)
            if (file.size or 0) > limit:
                raise ApiError("request_too_large", f"The file is larger than {limit} bytes.")
            return _Upload(
                filename=_clean_name(file.filename),
                purpose=purpose,
                bytes=file.size or 0,
                ref=await deps.offload(deps.blobs.put_file, file.file),
                lives_s=lives_s,
            )
    except MultiPartException as error:
        raise ApiError("invalid_body", "This is not a valid multipart form.") from error


def _parse_lifetime(form: FormData) -> int | None:
    """Seconds after which the file is deleted by itself; None: never. Pure.

    Raises:
        ApiError: `invalid_value`.
    """
    if ANCHOR not in form and SECONDS not in form:
        return None
    if form.get(ANCHOR) != "created_at":
        raise ApiError("invalid_value", f"{ANCHOR} is created_at.", param=ANCHOR)
    given, (least, most) = form.get(SECONDS), EXPIRY_S
    lives_s = request_body.parse_whole_number(given) if isinstance(given, str) else None
    if lives_s is None or not least <= lives_s <= most:
        raise ApiError("invalid_value", f"{SECONDS} is from {least} to {most}.", param=SECONDS)
    return lives_s


async def _keep(deps: Dependencies, request: Request, tenant: str, upload: _Upload) -> FileRow:
    mine = f"file-{deps.entropy(12).hex()}"
    content = f"files {upload.purpose} {upload.filename}"
    if upload.lives_s is not None:
        content = f"{content} {upload.lives_s}"
    now = deps.clock.now()
    digest = ids.body_hash(content, upload.ref.encode())
    row = FileRow(
        id=mine,
        tenant=tenant,
        filename=upload.filename,
        purpose=upload.purpose,
        bytes=upload.bytes,
        created_at=now,
        ref=upload.ref,
        expires_at=None if upload.lives_s is None else now + timedelta(seconds=upload.lives_s),
    )
    key = read_key_use(deps, request, tenant, digest)
    file_id = resolve_claim(await deps.offload(deps.store.add_file, row, key=key))
    known = None if file_id == mine else await deps.offload(deps.store.file, file_id)
    return known or row


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/v1/files", upload, "Uploads a file.", takes="Upload", takes_type=FORM,
        gives="File", headers=("Idempotency-Key",)
    ),
    Endpoint(
        "GET", "/v1/files", list_files, "Files of this key.", gives="FileList",
        query=("purpose", *QUERY)
    ),
    Endpoint("GET", "/v1/files/{file_id}", retrieve, "One file.", gives="File"),
    Endpoint("DELETE", "/v1/files/{file_id}", delete, "Deletes a file.", gives="Deleted"),
    Endpoint(
        "GET", "/v1/files/{file_id}/content", retrieve_content, "The bytes of a file.",
        gives="Bytes", gives_types=("application/octet-stream",)
    ),
)  # fmt: skip
