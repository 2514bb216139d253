"""Routers: one for callers' routes, two for the admin's."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic.alias_generators import to_camel

from api.http.dependencies import admin_only, admin_with_body
from api.http.openapi import ADMIN_SCHEME


def feature_router(**options: Any) -> APIRouter:
    """A router whose operation ids are its functions' names in camelCase."""
    return APIRouter(generate_unique_id_function=lambda route: to_camel(route.name), **options)


def admin_router(**options: Any) -> APIRouter:
    """A router for `/api/admin/…`: needs the admin secret, is never cached, refuses a body and unknown parameters."""
    return feature_router(dependencies=[Depends(admin_only), ADMIN_SCHEME], **options)


def admin_body_router(**options: Any) -> APIRouter:
    """The same for routes that take a body (`BODY`)."""
    return feature_router(dependencies=[Depends(admin_with_body), ADMIN_SCHEME], **options)
