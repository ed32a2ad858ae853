"""OpenAI's chat, completions and embeddings: in one piece, streamed, or in the background."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from events.names import Operation
from events.openai.operations import OPERATIONS
from events.timestamps import to_rfc3339
from functions.ingress import pipeline
from functions.ingress.callback_targets import show_target
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import EVENT_STREAM, JSON, Endpoint
from functions.ingress.http_responses import answer, id_headers
from functions.ingress.parse_call import CALL_HEADERS, InferenceCall, read_call
from functions.ingress.results import Result, to_response
from functions.ports.store import CallbackTarget, RequestRow


@dataclass(frozen=True, slots=True)
class OpenAiApi:
    """One operation: the body goes to the model as it came, its answer comes back as the worker wrote it."""

    operation: Operation

    async def parse(self, deps: Dependencies, request: Request, tenant: str) -> InferenceCall:
        return await read_call(deps, request, self.operation, tenant)

    def show_accepted(
        self, call: InferenceCall, row: RequestRow, target: CallbackTarget | None
    ) -> Response:
        url = f"/v1/requests/{row.id}"
        body = {
            "id": row.id,
            "object": "request",
            "state": row.state,
            "operation": row.operation,
            "model": row.asked_model,
            "accepted_at": to_rfc3339(row.accepted_at),
            "deadline": to_rfc3339(row.deadline),
            "urls": {"self": url, "events": f"{url}/events", "cancel": f"{url}/cancel"},
        }
        if target is not None:
            body["callback"] = show_target(target)
        headers = id_headers(row.id) | {"location": url}
        if call.preference.is_async:
            headers["preference-applied"] = "respond-async"
        elif call.preference.wait_s is not None:
            headers["preference-applied"] = f"wait={call.preference.wait_s:g}"
        return answer(body, 202, headers)

    def show_result(self, call: InferenceCall, row: RequestRow, result: Result) -> Response:
        return to_response(result)


async def create(operation: Operation, deps: Dependencies, request: Request) -> Response:
    """A call of one operation."""
    return await pipeline.run(deps, request, OpenAiApi(operation))


def _describe(operation: Operation, summary: str) -> Endpoint:
    about = OPERATIONS[operation]
    return Endpoint(
        "POST",
        about.path,
        partial(create, operation),
        summary,
        takes=about.body,
        gives_types=(JSON, EVENT_STREAM) if about.is_generative else (JSON,),
        statuses=(200, 202),
        headers=CALL_HEADERS,
    )


ENDPOINTS: Final = (
    _describe(Operation.CHAT, "Chat: in one piece, streamed, or in the background."),
    _describe(Operation.COMPLETIONS, "Completions of a prompt."),
    _describe(Operation.EMBEDDINGS, "Embeddings of texts."),
)
