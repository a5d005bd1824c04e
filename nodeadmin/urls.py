"""All addresses."""

from django.contrib import admin
from django.urls import include, path

from nodes.realtime.metrics import metrics
from nodes.web.views.session import favicon

urlpatterns = [
    path("favicon.ico", favicon, name="favicon"),
    path("metrics", metrics, name="metrics"),
    path("api/", include("nodes.api.urls")),
    path("admin/", admin.site.urls),
    path("", include("nodes.web.urls")),
]

handler400 = "nodes.web.errors.bad_request"
handler403 = "nodes.web.errors.forbidden"
handler404 = "nodes.web.errors.not_found"
handler500 = "nodes.web.errors.server_error"
