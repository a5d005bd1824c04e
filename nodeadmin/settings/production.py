"""Behind a proxy that ends TLS. Nothing secret has a default; ``manage.py check --deploy`` is clean."""

from nodeadmin import env
from nodeadmin.settings.base import *

NODEADMIN_PROFILE = "production"
SECRET_KEY = env.secret("NODEADMIN_SECRET_KEY")
NODEADMIN_SEAL_KEYS = env.secret("NODEADMIN_SEAL_KEYS")
NODEADMIN_AUDIT_KEY = env.secret("NODEADMIN_AUDIT_KEY")

SECURE_SSL_REDIRECT = env.boolean("NODEADMIN_SSL_REDIRECT", True)
SECURE_HSTS_SECONDS = env.integer("NODEADMIN_HSTS_S", 365 * 24 * 3600)
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
