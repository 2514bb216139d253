"""The API of `make dev`, for `uvicorn --factory`: a long-lived host pays for all imports before it listens."""

import os

from fastapi import FastAPI

from infra.local.demo import DATABASE_VARIABLE, demo_router


def create_app() -> FastAPI:
    """The app of `api.index` with the routes of all features, and the demo where its database is named."""
    from api.index import app

    app.open_features()
    if database_url := os.environ.get(DATABASE_VARIABLE):
        app.include_router(demo_router(database_url))
    return app
