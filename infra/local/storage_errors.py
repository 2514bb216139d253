"""Errors of the Storage stand-in: HTTP 400 with the actual code in the body, as on the real server."""

from starlette.responses import JSONResponse


class RefusalError(Exception):
    """An error as Storage spells it."""

    def __init__(self, status: int, error: str, message: str, *, http: int = 400) -> None:
        self.answer = JSONResponse({"statusCode": str(status), "error": error, "message": message}, http)


def no_object() -> RefusalError:
    return RefusalError(404, "not_found", "Object not found")


def no_bucket() -> RefusalError:
    return RefusalError(404, "Bucket not found", "Bucket not found")


def no_right() -> RefusalError:
    return RefusalError(403, "Unauthorized", "new row violates row-level security policy")


def duplicate() -> RefusalError:
    return RefusalError(409, "Duplicate", "The resource already exists")


def invalid(message: str) -> RefusalError:
    """Say what the request lacks, as the server's schemas do."""
    return RefusalError(400, "Error", message)
