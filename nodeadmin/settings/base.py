"""What all settings share. Everything that differs between installations comes from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF
from django.conf import global_settings
from django.utils.translation import gettext_lazy as _

from nodeadmin import env
from nodeadmin.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DATA_DIR = env.path("NODEADMIN_DATA_DIR", BASE_DIR / "var")

DEBUG = False
ALLOWED_HOSTS = env.words("NODEADMIN_ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
CSRF_TRUSTED_ORIGINS = env.words("NODEADMIN_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "nodes.apps.NodesConfig",
    "nodeadmin.admin_site.NodeadminAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "template_partials.apps.SimpleAppConfig",
    "guardian",
    "channels",
    "axes",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "csp",
    "django_structlog",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "nodes.audit.requests.ActorMiddleware",
    "nodes.web.accounts.guard.LoginGuardMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "nodes.web.visible_text.VisibleTextMiddleware",
    "nodes.web.callers.CallerMiddleware",
    "nodes.web.errors.ErrorPageMiddleware",
    "nodes.web.credential_use.RequestMiddleware",
    "nodes.sign_in_limits.SignInMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "nodeadmin.urls"
ASGI_APPLICATION = "nodeadmin.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "nodes.web.context.frame",
                "nodes.web.context.account",
            ],
            "loaders": [
                (
                    "template_partials.loader.Loader",
                    [
                        (
                            "django.template.loaders.cached.Loader",
                            [
                                "django.template.loaders.filesystem.Loader",
                                "django.template.loaders.app_directories.Loader",
                            ],
                        )
                    ],
                )
            ],
            "builtins": [
                "template_partials.templatetags.partials",
                "nodes.web.templatetags.show",
                "nodes.web.templatetags.logs",
            ],
        },
    },
]

# Embedded by default: one file, WAL so that readers never wait for the writer, IMMEDIATE so that a
# transaction that will write takes its lock at the start instead of failing half way.
DATABASE_URL = env.secret("NODEADMIN_DATABASE_URL", default="")
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "nodeadmin.sqlite3",
        "OPTIONS": {
            # So long a call waits for another one's write; then it is answered with 503.
            "timeout": env.seconds("NODEADMIN_DATABASE_LOCK_S", 10.0, minimum=0.1),
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
        },
    }
}
if DATABASE_URL:
    DATABASES["default"] = env.postgresql(DATABASE_URL)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "nodes.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "nodes.password_hashing.MaximumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_AGE = env.integer("NODEADMIN_SESSION_AGE_S", 12 * 3600, minimum=300)
# A session that nobody uses ends after so long (0: at its age alone); pages that ask for news do not count.
NODEADMIN_SESSION_IDLE_S = env.integer("NODEADMIN_SESSION_IDLE_S", 2 * 3600)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = "nodeadmin_session"
CSRF_COOKIE_NAME = "nodeadmin_csrf"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "nodes.web.errors.csrf_failure"

# allauth: user names and passwords, no sign-up, no mail. An administrator sets forgotten passwords.
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_NOTIFICATIONS = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_ADAPTER = "nodes.web.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {"reauthenticate": "nodes.web.forms.account.PasswordAgainForm"}
MFA_FORMS = {
    "authenticate": "nodes.web.forms.account.CodeForm",
    "reauthenticate": "nodes.web.forms.account.CodeAgainForm",
    "activate_totp": "nodes.web.forms.account.AppForm",
    "add_webauthn": "nodes.web.forms.account.PasskeyForm",
}
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_ADAPTER = "nodes.web.accounts.factors.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "nodeadmin"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODE_DIGITS = 10

# Signing in at an identity provider (OpenID Connect): its issuer, this server as its client, and which of its
# groups are which of ours. Nobody comes in without one of those groups.
NODEADMIN_OIDC_ISSUER = env.text("NODEADMIN_OIDC_ISSUER")
NODEADMIN_OIDC_NAME = env.text("NODEADMIN_OIDC_NAME", "OpenID Connect")
NODEADMIN_OIDC_GROUPS_CLAIM = env.text("NODEADMIN_OIDC_GROUPS_CLAIM", "groups")
NODEADMIN_OIDC_GROUP_ROLES = env.pairs("NODEADMIN_OIDC_GROUP_ROLES")
NODEADMIN_OIDC_SCOPES = env.words("NODEADMIN_OIDC_SCOPES", ("openid", "profile"))
NODEADMIN_OIDC_TRUSTS_SECOND_FACTOR = env.boolean("NODEADMIN_OIDC_TRUSTS_SECOND_FACTOR", False)
SOCIALACCOUNT_ADAPTER = "nodes.web.accounts.oidc.SocialAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {
    "openid_connect": {
        "provider_class": "nodes.web.accounts.provider.OidcProvider",
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [],
    }
}
if NODEADMIN_OIDC_ISSUER:
    SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"] = [
        {
            "provider_id": "oidc",
            "name": NODEADMIN_OIDC_NAME,
            "client_id": env.text("NODEADMIN_OIDC_CLIENT_ID"),
            "secret": env.secret("NODEADMIN_OIDC_CLIENT_SECRET", default=""),
            "settings": {"server_url": NODEADMIN_OIDC_ISSUER, "fetch_userinfo": True},
        }
    ]

# guardian: no anonymous user, and only the direct tables that nodes/models declares.
ANONYMOUS_USER_NAME = None
GUARDIAN_RAISE_403 = False

# Wrong passwords that are free: for a name, and from an address (an IPv6 /64); one more of each a minute.
# Then the next try waits, twice as long after each failure, up to a bound (nodes/sign_in_limits.py).
NODEADMIN_LOGIN_FAILURES = env.integer("NODEADMIN_LOGIN_FAILURES", 10, minimum=1)
NODEADMIN_LOGIN_FAILURES_PER_ADDRESS = env.integer("NODEADMIN_LOGIN_FAILURES_PER_ADDRESS", 20, minimum=1)
NODEADMIN_LOGIN_PAUSE_H = env.seconds("NODEADMIN_LOGIN_PAUSE_H", 0.25)
# Passwords that are hashed at once in each web process, and that wait for it.
NODEADMIN_HASHES = env.integer("NODEADMIN_HASHES", 2, minimum=1)
NODEADMIN_HASH_QUEUE = env.integer("NODEADMIN_HASH_QUEUE", 8)
PASSWORD_HASHERS = [
    "nodes.password_hashing.BoundedPBKDF2PasswordHasher",
    *(name for name in global_settings.PASSWORD_HASHERS if not name.endswith(".PBKDF2PasswordHasher")),
]
AXES_HANDLER = "nodes.sign_in_limits.SignInHandler"
AXES_LOCKOUT_CALLABLE = "nodes.web.errors.locked_out"
AXES_ENABLE_ADMIN = True
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "password"]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Collecting is part of the first start: without these two it takes six times as long, most of it spent on
# compressing source maps and the copies that no page names.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ("map", "png", "jpg", "gif", "webp", "woff", "woff2", "gz", "br", "zip")

# No inline script or style anywhere: what is injected into a page cannot run.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "manifest-src": [SELF],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "nodes.api.authentication.BearerTokenAuthentication",
        "nodes.api.authentication.LoginAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["nodes.api.permissions.SignedIn"],
    "DEFAULT_RENDERER_CLASSES": ["nodes.api.rendering.AnswerRenderer"],
    "DEFAULT_PARSER_CLASSES": ["nodes.api.parsing.BodyParser"],
    "DEFAULT_SCHEMA_CLASS": "nodes.api.schema.AutoSchema",
    "EXCEPTION_HANDLER": "nodes.api.exceptions.handle",
    "DEFAULT_THROTTLE_CLASSES": ["nodes.api.throttling.UserThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": env.rate("NODEADMIN_API_RATE", "1200/min")},
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "nodeadmin",
    "DESCRIPTION": "Manages the physical hosts of a libvirt/KVM cluster.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/",
    "COMPONENT_SPLIT_REQUEST": True,
    "SORT_OPERATIONS": False,
    "SERVE_PERMISSIONS": ["nodes.api.permissions.SignedIn"],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "PowerVmPolicyEnum": ["refuse", "migrate", "stop"],
        "SeverityEnum": "nodes.models.event.Severity",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "nodes.api.schema.add_components",
    ],
}

# Over Redis where there are several processes. Any message may be lost (nodes/news.py).
NODEADMIN_REDIS_URL = env.redis("NODEADMIN_REDIS_URL")
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if NODEADMIN_REDIS_URL:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # The layer waits 5 s for a message at a time, which is also redis-py's own limit for an answer:
            # an idle socket would end with that. A Redis that is gone is known by its connection.
            "hosts": [{"address": NODEADMIN_REDIS_URL, "socket_timeout": 30}],
            "prefix": "nodeadmin",
        },
    }
# In each process of its own: a rate limit then holds for each web worker, and no request waits for Redis.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

LOGGING_CONFIG = "nodeadmin.logs.configure"
LOGGING = logging_config(
    json=env.boolean("NODEADMIN_LOG_JSON", False),
    level=env.text("NODEADMIN_LOG_LEVEL", "INFO", choices=env.LOG_LEVELS),
)

# ---- nodeadmin's own ------------------------------------------------------------------------------
NODEADMIN_ENGINE = env.text("NODEADMIN_ENGINE", "embedded", choices=("embedded", "celery"))
NODEADMIN_BROKER_URL = env.secret("NODEADMIN_BROKER_URL", default=env.broker(NODEADMIN_REDIS_URL))
NODEADMIN_WEB_WORKERS = env.integer("NODEADMIN_WEB_WORKERS", 1, minimum=1, maximum=64)
# With Celery "this machine" is whichever one a worker runs on: right where all of them run on one.
NODEADMIN_LOCAL_NODE = env.boolean("NODEADMIN_LOCAL_NODE", NODEADMIN_ENGINE == "embedded")
# Operations at once: short ones, inventories that people ask for, those by schedule, and beside them those
# that wait for hosts and VMs, minutes at a time. Each of the last may use three connections to the database.
NODEADMIN_ENGINE_THREADS = env.integer("NODEADMIN_ENGINE_THREADS", 8, minimum=1, maximum=64)
NODEADMIN_ENGINE_REFRESH_THREADS = env.integer("NODEADMIN_ENGINE_REFRESH_THREADS", 4, minimum=1, maximum=64)
NODEADMIN_ENGINE_AUTOMATIC_THREADS = env.integer(
    "NODEADMIN_ENGINE_AUTOMATIC_THREADS", 8, minimum=1, maximum=64
)
NODEADMIN_ENGINE_PATIENT_THREADS = env.integer("NODEADMIN_ENGINE_PATIENT_THREADS", 16, minimum=1, maximum=256)
NODEADMIN_LEASE_S = env.seconds("NODEADMIN_LEASE_S", 10.0, minimum=2.0)
NODEADMIN_SWEEP_S = env.seconds("NODEADMIN_SWEEP_S", 1.0, minimum=0.1)
NODEADMIN_ALLOW_TEST_URI = env.boolean("NODEADMIN_ALLOW_TEST_URI", False)
NODEADMIN_STALE_AFTER_S = env.seconds("NODEADMIN_STALE_AFTER_S", 1800.0, minimum=10.0)
NODEADMIN_SNAPSHOTS_KEPT = env.integer("NODEADMIN_SNAPSHOTS_KEPT", 10, minimum=1)
NODEADMIN_OPERATION_DAYS = env.integer("NODEADMIN_OPERATION_DAYS", 180, minimum=1)
# Events of hosts and the monitor; of each node at most so many. Entries of the audit log stay longer.
NODEADMIN_EVENT_DAYS = env.integer("NODEADMIN_EVENT_DAYS", 365, minimum=1)
NODEADMIN_EVENTS_PER_NODE = env.integer("NODEADMIN_EVENTS_PER_NODE", 10_000, minimum=100)
# Where entries of the audit log go as they are written: a file of JSON lines, and a syslog server.
NODEADMIN_AUDIT_FILE = env.text("NODEADMIN_AUDIT_FILE")
NODEADMIN_AUDIT_SYSLOG = env.text("NODEADMIN_AUDIT_SYSLOG")
NODEADMIN_AUDIT_DAYS = env.integer("NODEADMIN_AUDIT_DAYS", 3 * 365, minimum=1)
# What needs a second factor: "" nothing, "power" a fresh one for power actions, removals, credentials, grants
# and tokens, "all" one at each sign-in as well.
NODEADMIN_REQUIRE_SECOND_FACTOR = env.text(
    "NODEADMIN_REQUIRE_SECOND_FACTOR", "", choices=("", "power", "all")
)
# Addresses or networks of proxies whose word for the client's address and scheme counts, "unix" for those
# that connect over a Unix socket; nobody's otherwise (nodeadmin/proxies.py).
NODEADMIN_TRUSTED_PROXIES = env.words("NODEADMIN_TRUSTED_PROXIES")
# Networks and addresses that hosts, BMCs, migration addresses and webhooks may have, and may not; where the
# first is empty, all but link-local and metadata addresses (nodes/hosts/network_rules.py).
NODEADMIN_ALLOWED_NETWORKS = env.words("NODEADMIN_ALLOWED_NETWORKS")
NODEADMIN_DENIED_NETWORKS = env.words("NODEADMIN_DENIED_NETWORKS")
# In each web process: requests without a login from one address (an IPv6 /64); requests at once, of
# which one login or address has a quarter; connections in all and from one address, of which trusted proxies
# may have any number (nodeadmin/callers.py).
NODEADMIN_ANONYMOUS_RATE = env.rate("NODEADMIN_ANONYMOUS_RATE", "240/min")
NODEADMIN_REQUESTS = env.integer("NODEADMIN_REQUESTS", 128, minimum=4)
NODEADMIN_CONNECTIONS = env.integer("NODEADMIN_CONNECTIONS", 2000, minimum=10)
NODEADMIN_CONNECTIONS_PER_ADDRESS = env.integer("NODEADMIN_CONNECTIONS_PER_ADDRESS", 256, minimum=1)
# Looks at addresses that belong to no node, for each user.
NODEADMIN_SCAN_RATE = env.rate("NODEADMIN_SCAN_RATE", "30/min")
# Calls that wait for a host or for an operation's end, for each user and in all, in each web process.
NODEADMIN_WAITS_PER_USER = env.integer("NODEADMIN_WAITS_PER_USER", 8, minimum=1)
NODEADMIN_WAITS = env.integer("NODEADMIN_WAITS", 32, minimum=1)
# Addresses and networks from which alone hosts take nodeadmin's own key (from="…" in authorized_keys).
NODEADMIN_KEY_FROM = env.words("NODEADMIN_KEY_FROM")
NODEADMIN_HOST_TIMEOUT_S = env.seconds("NODEADMIN_HOST_TIMEOUT_S", 15.0, minimum=1.0)
NODEADMIN_PROBE_TIMEOUT_S = env.seconds("NODEADMIN_PROBE_TIMEOUT_S", 60.0, minimum=5.0)
NODEADMIN_MONITOR = env.text("NODEADMIN_MONITOR", "embedded", choices=("embedded", "separate"))
NODEADMIN_BEAT_S = env.seconds("NODEADMIN_BEAT_S", 5.0, minimum=1.0, maximum=60.0)
NODEADMIN_REFRESH_S = env.seconds("NODEADMIN_REFRESH_S", 900.0)
NODEADMIN_MONITOR_LEASE_S = env.seconds("NODEADMIN_MONITOR_LEASE_S", 8.0, minimum=2.0)
NODEADMIN_MONITOR_THREADS = env.integer("NODEADMIN_MONITOR_THREADS", 16, minimum=1, maximum=128)
NODEADMIN_CUT_OFF_SHARE = env.seconds("NODEADMIN_CUT_OFF_SHARE", 0.5, minimum=0.1, maximum=1.0)
NODEADMIN_METRICS_TOKEN = env.secret("NODEADMIN_METRICS_TOKEN", default="")
NODEADMIN_LOG_SOCKETS_PER_USER = env.integer("NODEADMIN_LOG_SOCKETS_PER_USER", 20, minimum=1)
# A plan asks so many nodes at once whether they could take VMs, and the next ones where these do not suffice.
NODEADMIN_PLAN_TARGETS = env.integer("NODEADMIN_PLAN_TARGETS", 16, minimum=1, maximum=256)
# A node takes VMs up to this many virtual processors for each of its own.
NODEADMIN_VCPU_OVERCOMMIT = env.seconds("NODEADMIN_VCPU_OVERCOMMIT", 4.0, minimum=0.1)
# Migrations at once out of a node and into one, over all operations; 0 for the bandwidth is no cap.
NODEADMIN_MIGRATIONS_OUT = env.integer("NODEADMIN_MIGRATIONS_OUT", 2, minimum=1, maximum=16)
NODEADMIN_MIGRATIONS_IN = env.integer("NODEADMIN_MIGRATIONS_IN", 2, minimum=1, maximum=16)
NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = env.integer("NODEADMIN_MIGRATION_BANDWIDTH_MIB_S", 0)
NODEADMIN_MIGRATION_TIMEOUT_S = env.seconds("NODEADMIN_MIGRATION_TIMEOUT_S", 1800.0, minimum=1.0)
# Whether migrations are encrypted: "prefer" where QEMU has certificates on both hosts, "require" always.
NODEADMIN_MIGRATION_TLS = env.text("NODEADMIN_MIGRATION_TLS", "prefer", choices=("require", "prefer", "off"))
# A migration that gets no nearer to its end for so long and in so many passes is aborted; 0 s: never.
NODEADMIN_MIGRATION_STALL_S = env.seconds("NODEADMIN_MIGRATION_STALL_S", 300.0)
NODEADMIN_MIGRATION_STALL_PASSES = env.integer("NODEADMIN_MIGRATION_STALL_PASSES", 4, minimum=1)
# How long the state of a VM is asked for on both hosts after a migration that broke off.
NODEADMIN_SETTLE_S = env.seconds("NODEADMIN_SETTLE_S", 60.0, minimum=1.0)
# No power command is sent later than this after an operation's last step: the host may have filled again.
NODEADMIN_CONFIRMATION_LIFE_S = env.seconds("NODEADMIN_CONFIRMATION_LIFE_S", 1800.0, minimum=1.0)
NODEADMIN_POWER_OFF_S = env.seconds("NODEADMIN_POWER_OFF_S", 300.0, minimum=1.0)
NODEADMIN_REBOOT_S = env.seconds("NODEADMIN_REBOOT_S", 900.0, minimum=1.0)
NODEADMIN_SILENCE_S = env.seconds("NODEADMIN_SILENCE_S", 30.0, minimum=1.0)
