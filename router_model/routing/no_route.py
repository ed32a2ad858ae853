"""Why no service can be chosen. Codes are those of the failed reply.

NoRoute
├── ModelNotFound        no model, alias or task of that name
├── ModelNotAllowed      the tenant may not use it
├── CapabilityMissing    it cannot do what is asked (`embeddings` of a chat model, `tools`, `vision`)
├── UnsupportedField     its model server does not do what a field of the body asks for
├── ContextTooLong       the prompt certainly exceeds every candidate's context
├── ProfileUnknown       no such preference profile
├── NoHealthyService     candidates exist, none is healthy with capacity
└── ConstraintsUnmet     healthy candidates exist, each breaks a limit of the request
"""

from typing import ClassVar

from events.names import PROFILE


class NoRoute(Exception):
    """Root. `message` is for a person and holds no prompt text; `param` is the request field at fault."""

    code: ClassVar[str] = "internal"
    param: str | None = "model"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ModelNotFound(NoRoute):
    code = "model_not_found"


class ModelNotAllowed(NoRoute):
    code = "model_not_allowed"


class CapabilityMissing(NoRoute):
    code = "capability_missing"


class UnsupportedField(NoRoute):
    code = "unsupported_parameter"


class ContextTooLong(NoRoute):
    code = "context_length_exceeded"
    param = None


class ProfileUnknown(NoRoute):
    code = "invalid_value"
    param = PROFILE


class NoHealthyService(NoRoute):
    code = "no_healthy_service"
    param = None


class ConstraintsUnmet(NoRoute):
    """`param` is the event attribute of the limit that the nearest candidate breaks."""

    code = "constraints_unmet"

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param
