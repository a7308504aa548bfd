"""What is installed, how the server is, and what its owner does to it."""

from typing import Annotated

import msgspec

from mlx_serve_common.errors import ErrorCode
from mlx_serve_gateway.http.admin import Drained, ModelOrder, ModelState, Reconfigured
from mlx_serve_gateway.http.contract.endpoint import (
    TEXT,
    Answer,
    Endpoint,
    Query,
    json_answer,
    lines,
)
from mlx_serve_gateway.http.contract.event_shapes import EventLine
from mlx_serve_gateway.http.contract.refusals import LOADING, UNKNOWN_MODEL
from mlx_serve_gateway.http.health import Alive, Health, HealthDetail, Readiness
from mlx_serve_gateway.http.model_list import ModelCard, ModelList

_Number = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
_TEXT = Answer(type=str, media_type=TEXT)

ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/v1/models",),
        tag="models",
        summary="The installed models",
        answers=(json_answer(ModelList),),
    ),
    Endpoint(
        method="GET",
        paths=("/v1/models/{id}",),
        tag="models",
        summary="An installed model; slashes in its id may stand as they are",
        answers=(json_answer(ModelCard),),
        refusals=UNKNOWN_MODEL,
    ),
    Endpoint(
        method="GET",
        paths=("/",),
        tag="health",
        summary="That something is here",
        answers=(_TEXT,),
    ),
    Endpoint(
        method="GET",
        paths=("/livez",),
        tag="health",
        summary="Whether the process serves",
        answers=(json_answer(Alive),),
    ),
    Endpoint(
        method="GET",
        paths=("/readyz",),
        tag="health",
        summary="Whether everything is there that was promised at the start",
        answers=(json_answer(Readiness), Answer(type=Readiness, status=503)),
    ),
    Endpoint(
        method="GET",
        paths=("/health",),
        tag="health",
        summary="How the server is",
        answers=(json_answer(Health), Answer(type=Health, status=503)),
    ),
    Endpoint(
        method="GET",
        paths=("/health/detail",),
        tag="health",
        summary="How the server and each of its workers are",
        tier="owner",
        answers=(json_answer(HealthDetail),),
    ),
    Endpoint(
        method="GET",
        paths=("/metrics",),
        tag="health",
        summary="What Prometheus reads; only where metrics.enabled is true",
        tier="owner",
        answers=(_TEXT,),
    ),
    Endpoint(
        method="GET",
        paths=("/openapi.json",),
        tag="health",
        summary="This document",
        answers=(json_answer(dict),),
    ),
    Endpoint(
        method="POST",
        paths=("/admin/load",),
        tag="admin",
        summary="Load a model; answered when it is there",
        tier="owner",
        body=ModelOrder,
        answers=(json_answer(ModelState),),
        refusals=LOADING,
    ),
    Endpoint(
        method="POST",
        paths=("/admin/unload",),
        tag="admin",
        summary="Let a model leave the memory when what was asked of it is done",
        tier="owner",
        body=ModelOrder,
        answers=(json_answer(ModelState),),
        refusals=UNKNOWN_MODEL | {ErrorCode.MODEL_BUSY},
    ),
    Endpoint(
        method="POST",
        paths=("/admin/pin", "/admin/unpin"),
        tag="admin",
        summary="Keep a model in memory, or no longer",
        tier="owner",
        body=ModelOrder,
        answers=(json_answer(ModelState),),
        refusals=UNKNOWN_MODEL | {ErrorCode.MODEL_BUSY},
    ),
    Endpoint(
        method="POST",
        paths=("/admin/reload",),
        tag="admin",
        summary="Read the configuration again",
        tier="owner",
        answers=(json_answer(Reconfigured),),
    ),
    Endpoint(
        method="POST",
        paths=("/admin/drain",),
        tag="admin",
        summary="Finish what is running, take nothing new, and end",
        tier="owner",
        answers=(Answer(type=Drained, status=202),),
    ),
    Endpoint(
        method="GET",
        paths=("/admin/events",),
        tag="admin",
        summary="What happens to the server, line by line, without an end",
        tier="owner",
        queries=(Query(name="after", type=_Number, summary="The last number that is known"),),
        answers=(lines(EventLine),),
    ),
)
