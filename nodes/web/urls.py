"""The addresses of the pages."""

from __future__ import annotations

from allauth.account.views import account_inactive
from allauth.socialaccount.views import login_cancelled
from django.contrib.auth import views as auth_views
from django.urls import include, path
from django.views.generic import RedirectView

from nodes.web.views import (
    account,
    audit,
    bulk,
    dashboard,
    devices,
    events,
    history,
    jump_hosts,
    logs,
    node_add,
    node_bmc,
    node_detail,
    node_list,
    node_settings,
    oidc,
    operations,
    own_key,
    service,
    session,
    settings,
    shared_storage,
    tokens,
)
from nodes.web.views.access import signed_in

# Names that allauth asks for. What it would have an address for and is not listed does not exist here.
account_urlpatterns = [
    path("login/", session.SignIn.as_view(), name="account_login"),
    path("logout/", auth_views.LogoutView.as_view(), name="account_logout"),
    path("account/", signed_in(RedirectView.as_view(pattern_name="mfa_index")), name="account"),
    path("account/password/", signed_in(account.PasswordPage.as_view()), name="account_change_password"),
    path(
        "account/password-again/", signed_in(account.PasswordAgain.as_view()), name="account_reauthenticate"
    ),
    path("account/sessions/", signed_in(account.sessions), name="usersessions_list"),
    path("account/sessions/<int:pk>/end/", signed_in(account.end_session), name="session-end"),
    path("account/sessions/end-others/", signed_in(account.end_other_sessions), name="sessions-end-others"),
    path("account/confirm/", signed_in(account.confirm), name="factor-confirm"),
    path("account/second-factor/challenge/", signed_in(account.challenge), name="factor-challenge"),
    path(
        "account/second-factor/webauthn/",
        signed_in(RedirectView.as_view(pattern_name="mfa_index")),
        name="factor-passkeys",
    ),
    path("account/second-factor/", include("allauth.mfa.urls")),
    path("account/oidc/<str:provider_id>/login/", account.closed, name="openid_connect_login"),
    path("account/oidc/<str:provider_id>/login/callback/", account.closed, name="openid_connect_callback"),
]

urlpatterns = [
    path("login/", session.SignIn.as_view(), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("login/oidc/", oidc.login, name="oidc-login"),
    path("login/oidc/callback/", oidc.callback, name="oidc-callback"),
    path("login/cancelled/", login_cancelled, name="socialaccount_login_cancelled"),
    path("login/deactivated/", account_inactive, name="account_inactive"),
    *account_urlpatterns,
    path("", signed_in(dashboard.dashboard), name="dashboard"),
    path("search/", signed_in(node_list.search), name="search"),
    path("running/", signed_in(operations.running), name="running"),
    # Not below nodes/: a node may be named "add".
    path("add-node/", signed_in(node_add.add), name="node-add"),
    path("add-node/check/", signed_in(node_add.check), name="node-add-check"),
    path("add-node/scan/", signed_in(node_add.scan), name="node-add-scan"),
    path("add-node/progress/<uuid:pk>/", signed_in(node_add.progress), name="node-add-progress"),
    path("bulk-nodes/<slug:action>/", signed_in(bulk.bulk), name="node-bulk"),
    path("nodes/", signed_in(node_list.node_list), name="node-list"),
    path("nodes/<str:name>/", signed_in(node_detail.overview), name="node-detail"),
    path("nodes/<str:name>/refresh/", signed_in(node_detail.refresh), name="node-refresh"),
    path("nodes/<str:name>/observed/", signed_in(node_detail.observed), name="node-observed"),
    path("nodes/<str:name>/operations/", signed_in(node_detail.operations), name="node-operations"),
    path("nodes/<str:name>/events/", signed_in(node_detail.events), name="node-events"),
    path("nodes/<str:name>/changes/", signed_in(history.changes), name="node-changes"),
    path("nodes/<str:name>/disk-history/", signed_in(history.disk_history), name="node-disk-history"),
    path("nodes/<str:name>/logs/", signed_in(logs.logs), name="node-logs"),
    path("nodes/<str:name>/logs/download/", signed_in(logs.download), name="node-logs-download"),
    path("nodes/<str:name>/service/<slug:action>/", signed_in(service.dialog), name="node-service"),
    path("nodes/<str:name>/settings/", signed_in(node_settings.edit), name="node-settings"),
    path(
        "nodes/<str:name>/settings/connection/", signed_in(node_settings.connection), name="node-connection"
    ),
    path("nodes/<str:name>/settings/bmc/", signed_in(node_bmc.edit), name="node-bmc"),
    path("nodes/<str:name>/settings/bmc/scan/", signed_in(node_bmc.scan), name="node-bmc-scan"),
    path("nodes/<str:name>/settings/bmc/remove/", signed_in(node_bmc.remove), name="node-bmc-remove"),
    path("nodes/<str:name>/<slug:slug>/", signed_in(node_detail.section), name="node-section"),
    path("devices/", signed_in(devices.device_search), name="device-search"),
    path("operations/", signed_in(operations.operation_list), name="operation-list"),
    path("operations/<uuid:pk>/", signed_in(operations.detail), name="operation-detail"),
    path("operations/<uuid:pk>/cancel/", signed_in(operations.cancel_one), name="operation-cancel"),
    path("operations/<uuid:pk>/retry/", signed_in(operations.retry_one), name="operation-retry"),
    path("events/", signed_in(events.event_list), name="event-list"),
    path("audit-log/", signed_in(audit.audit_log), name="audit-log"),
    path("settings/", signed_in(settings.overview), name="settings"),
    path("settings/shared-storage/", signed_in(shared_storage.declarations), name="shared-storage"),
    path(
        "settings/shared-storage/<int:pk>/withdraw/",
        signed_in(shared_storage.withdraw),
        name="shared-storage-withdraw",
    ),
    path("settings/jump-hosts/", signed_in(jump_hosts.listing), name="jump-hosts"),
    path("settings/jump-hosts/add/", signed_in(jump_hosts.add), name="jump-host-add"),
    path("settings/jump-hosts/scan/", signed_in(jump_hosts.scan), name="jump-host-scan"),
    path("settings/jump-hosts/<int:pk>/", signed_in(jump_hosts.change), name="jump-host"),
    path("settings/jump-hosts/<int:pk>/remove/", signed_in(jump_hosts.remove), name="jump-host-remove"),
    path("settings/own-key/", signed_in(own_key.overview), name="own-key"),
    path("settings/own-key/rotate/", signed_in(own_key.rotate), name="own-key-rotate"),
    path("settings/own-key/retire/", signed_in(own_key.retire), name="own-key-retire"),
    path("settings/tokens/", signed_in(tokens.token_list), name="token-list"),
    path("settings/tokens/<int:pk>/revoke/", signed_in(tokens.revoke), name="token-revoke"),
]
