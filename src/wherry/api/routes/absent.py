"""Routes of what this engine does not have: swarm and plug-ins. Clients ask for them and expect Docker's answers."""

from __future__ import annotations

from wherry.api.message import Answer, Request, json_response
from wherry.api.router import Route
from wherry.model.errors import NotFound, NotSupported, Unavailable

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join"'
    " to connect this node to swarm and try again."
)
_SWARM_NOUNS = ("nodes", "services", "tasks", "secrets", "configs")


async def _refuse_swarm(request: Request) -> Answer:  # noqa: ARG001 - the shape of a handler
    raise Unavailable(_NO_SWARM)


async def _refuse_init(request: Request) -> Answer:  # noqa: ARG001 - the shape of a handler
    raise NotSupported("this engine has no swarm mode")


async def _list_plugins(request: Request) -> Answer:  # noqa: ARG001 - the shape of a handler
    return json_response([])


async def _find_plugin(request: Request) -> Answer:
    raise NotFound(f'plugin "{request.params["name"]}" not found')


async def _refuse_plugin(request: Request) -> Answer:  # noqa: ARG001 - the shape of a handler
    raise NotSupported("this engine has no plugins")


def absent_routes() -> tuple[Route, ...]:
    """The table."""
    return (
        Route("GET", "/swarm", _refuse_swarm),
        Route("GET", "/swarm/unlockkey", _refuse_swarm),
        Route("POST", "/swarm/update", _refuse_swarm),
        Route("POST", "/swarm/unlock", _refuse_swarm),
        Route("POST", "/swarm/leave", _refuse_swarm),
        Route("POST", "/swarm/init", _refuse_init),
        Route("POST", "/swarm/join", _refuse_init),
        *(Route("GET", f"/{noun}", _refuse_swarm) for noun in _SWARM_NOUNS),
        *(Route("POST", f"/{noun}/create", _refuse_swarm) for noun in _SWARM_NOUNS),
        *(
            Route(method, f"/{noun}/{{id}}", _refuse_swarm)
            for noun in _SWARM_NOUNS
            for method in ("GET", "DELETE")
        ),
        *(Route("POST", f"/{noun}/{{id}}/update", _refuse_swarm) for noun in _SWARM_NOUNS),
        *(Route("GET", f"/{noun}/{{id}}/logs", _refuse_swarm) for noun in ("services", "tasks")),
        Route("GET", "/plugins", _list_plugins),
        Route("GET", "/plugins/privileges", _refuse_plugin),
        Route("POST", "/plugins/pull", _refuse_plugin),
        Route("GET", "/plugins/{name:path}/json", _find_plugin),
        Route("DELETE", "/plugins/{name:path}", _find_plugin),
        *(
            Route("POST", f"/plugins/{{name:path}}/{verb}", _find_plugin)
            for verb in ("enable", "disable", "upgrade", "push", "set")
        ),
    )
