"""OpenAPI 3.1: requests from the serializers, answers from the dataclasses that are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import msgspec
from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema as SpectacularAutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from nodes.api import (
    answers,
    factor_answers,
    history_answers,
    jump_host_answers,
    log_answers,
    operation_answers,
    own_key_answers,
    service_answers,
    shared_storage_answers,
)
from nodes.errors import NodeAdminError
from nodes.inventory.registry import SECTIONS
from nodes.inventory.section import Section
from nodes.operations.base import ClaimLost

REF = "#/components/schemas/{name}"
_ANSWERS: tuple[type, ...] = (
    answers.NodeDetail,
    answers.NodePage,
    operation_answers.OperationAnswer,
    operation_answers.OperationPage,
    answers.EventPage,
    history_answers.ChangePage,
    history_answers.DevicePage,
    history_answers.FiguresAnswer,
    log_answers.LogPageAnswer,
    log_answers.LogSourcesAnswer,
    log_answers.LogEntryAnswer,
    log_answers.OperationLogPage,
    answers.HostKeysAnswer,
    answers.CertificateAnswer,
    answers.ProblemAnswer,
    *service_answers.SHAPES,
    shared_storage_answers.SharedStoragePage,
    jump_host_answers.JumpHostPage,
    factor_answers.FactorsAnswer,
    factor_answers.FactorGivenAnswer,
    own_key_answers.OwnKeyPage,
    own_key_answers.KeyHolderPage,
    own_key_answers.RetiredKeyAnswer,
)
_IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key and body give the first answer again.",
)
_PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description="`wait=N`: wait up to N seconds (60 at most) for the end.",
)


OWN_CODES = (
    ("not_authenticated", "No login, or a token that is unknown, expired or revoked"),
    ("not_found", "There is no such endpoint"),
    ("method_not_allowed", "Endpoints take POST"),
    ("not_acceptable", "Answers are JSON"),
    ("unsupported_media_type", "Bodies are JSON"),
    ("body_too_large", "The body is too large"),
)
"""What the API itself says no with; the other codes are those of errors."""

PLAN_CODES = (
    "confirmation_invalid, plan_changed, node_has_running_vms, vm_state_unknown, last_eligible_node, "
    "plan_blocked"
)
"""What a call that needs a confirmation says no with."""

NEVER_ANSWERED = (NodeAdminError, ClaimLost)


class BearerScheme(OpenApiAuthenticationExtension):
    """How the schema names our tokens; the base class registers it where it is declared."""

    target_class = "nodes.api.authentication.BearerTokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: SpectacularAutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class LoginScheme(OpenApiAuthenticationExtension):
    """The cookie of a browser's login."""

    target_class = "nodes.api.authentication.LoginAuthentication"
    name = "cookieAuth"

    def get_security_definition(self, auto_schema: SpectacularAutoSchema) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


class WishFieldSchema(OpenApiSerializerFieldExtension):
    """An override of one VM: a word, or the word with a target; registered where it is declared."""

    target_class = "nodes.api.service_inputs.WishField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        target = {"type": "string", "maxLength": 63, "minLength": 1}
        chosen = {
            "type": "object",
            "required": ["action", "target"],
            "properties": {"action": {"type": "string", "enum": ["migrate"]}, "target": target},
            "additionalProperties": False,
        }
        return {"oneOf": [{"type": "string", "enum": list(self.target.word.choices)}, chosen]}


class AutoSchema(SpectacularAutoSchema):
    """One tag, and operation ids that are the endpoint's name."""

    def get_operation_id(self) -> str:
        return self.path.removeprefix("/api/").replace("-", "_")

    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/api/").split("-")[0]]


def facts_type(section: Section[Any]) -> type:
    """The dataclass that a section's parser gives, read off its annotation."""
    return_type = get_type_hints(section.parse)["return"]
    found: type = get_args(return_type)[0]
    return found


def ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}


def section_schema(section: Section[Any]) -> dict[str, Any]:
    """The schema of ``describe-node-<slug>``."""
    facts = {"oneOf": [ref(facts_type(section).__name__), {"type": "null"}]}
    return {
        "type": "object",
        "description": section.title,
        "required": ["node", "uuid", "observed_at", "age_s", "stale", "problems", "facts"],
        "properties": {
            "node": {"type": "string"},
            "uuid": {"type": "string", "format": "uuid"},
            "observed_at": {"type": ["string", "null"], "format": "date-time"},
            "age_s": {"type": ["number", "null"]},
            "stale": {"type": "boolean"},
            "problems": {"type": "array", "items": ref("Problem")},
            "facts": facts,
        },
    }


def add_components(result: dict[str, Any], generator: Any, request: Any, public: Any) -> dict[str, Any]:
    """drf-spectacular's post-processing hook: the dataclasses' schemas beside the serializers'."""
    from nodes.inventory.document import Problem

    types = [*_ANSWERS, Problem, *(facts_type(section) for section in SECTIONS)]
    _schemas, components = msgspec.json.schema_components(types, ref_template=REF, schema_hook=_any_object)
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas.update({name: schema for name, schema in components.items() if name not in schemas})
    schemas["ProblemAnswer"]["properties"]["code"] |= {"description": _codes_explained()}
    schemas["OperationAnswer"]["properties"]["error"] |= {
        "description": "Why it failed, in the words of a problem document: `code`, `title`, `detail`, "
        "`remedy`, `retryable`. Of a reboot or shutdown that was not carried out it also has the node's "
        "`scheduling`, and `vms`: for each VM its name `vm`, `uuid`, `outcome` (`started_again`, "
        "`start_failed`, `left_off`, `still_running`, `migrated`, `untouched`), a `message`, and the `code` "
        "of its own failure. A cancelled one has the same two in `result`."
    }
    return result


def _codes_explained() -> str:
    """Every code that an answer or an operation's ``error`` may carry, with what it means."""
    found = {"internal_error": "Something went wrong"} | dict(OWN_CODES)
    waiting: list[type[NodeAdminError]] = [NodeAdminError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "code" in vars(kind) and kind not in NEVER_ANSWERED:
            found[kind.code] = str(kind.title)
    return "\n".join(f"- `{code}`: {title}" for code, title in sorted(found.items()))


def _any_object(_type: type) -> dict[str, Any]:
    return {"type": "object"}


def documented(
    summary: str,
    request: Any,
    answer: type | Mapping[str, Any],
    *,
    example: Mapping[str, Any],
    long: bool = False,
    changes: bool = False,
    confirmed: bool = False,
    description: str = "",
    errors: Sequence[tuple[int, str]] = (),
) -> Any:
    """``extend_schema`` with this API's conventions.

    ``long`` marks what answers 202 with an operation; ``changes`` what honours an Idempotency-Key;
    ``confirmed`` what may answer with a plan that is to be confirmed first;
    ``errors`` are statuses and codes beyond 400, 401 and 404.
    """
    shape: Any = ref(answer.__name__) if isinstance(answer, type) else answer
    problem = ref("ProblemAnswer")
    responses: dict[Any, Any] = {
        (200, "application/json"): OpenApiResponse(shape, "The operation, ended" if long else ""),
        (400, "application/problem+json"): OpenApiResponse(problem, "invalid_input"),
        (401, "application/problem+json"): OpenApiResponse(problem, "not_authenticated"),
        (404, "application/problem+json"): OpenApiResponse(problem, "unknown_node, or not to be seen"),
        (405, "application/problem+json"): OpenApiResponse(problem, "method_not_allowed"),
        (429, "application/problem+json"): OpenApiResponse(problem, "rate_limited"),
    }
    if long:
        responses[202, "application/json"] = OpenApiResponse(shape, "Accepted: the operation")
    refusals = {403: "permission_denied", 413: "body_too_large", 415: "unsupported_media_type"}
    if long or changes:
        refusals |= {409: "node_busy", 422: "idempotency_key_reused"}
    for status, codes in errors:
        known = [refusals[status]] if status in refusals and refusals[status] not in codes else []
        refusals[status] = ", ".join([codes, *known])
    shapes = dict.fromkeys(refusals, problem)
    if confirmed:
        refusals |= {428: "confirmation_required", 409: ", ".join([refusals[409], PLAN_CODES])}
        shapes |= {428: ref("ConfirmationAnswer"), 409: ref("PlanProblemAnswer")}
    for status, codes in refusals.items():
        responses[status, "application/problem+json"] = OpenApiResponse(shapes[status], codes)
    return extend_schema(
        summary=summary,
        description=description or None,
        request={"application/json": request},
        responses=responses,
        parameters=[*([_IDEMPOTENCY] if changes or long else []), *([_PREFER] if long else [])],
        examples=[OpenApiExample(summary, value=dict(example), request_only=True)],
    )
