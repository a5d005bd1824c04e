"""One machine, one process, plain HTTP on loopback: what script/server runs.

Secrets are made at the first start and kept in the data directory. Cookies are not marked secure here,
because the address is http://127.0.0.1; checks.py refuses these settings on any other address.
"""

from cryptography.fernet import Fernet

from nodeadmin import env
from nodeadmin.settings.base import *
from nodeadmin.settings.base import DATA_DIR, STORAGES

NODEADMIN_PROFILE = "local"
SECRET_KEY = env.kept_secret("NODEADMIN_SECRET_KEY", DATA_DIR / "secrets" / "django-key")
NODEADMIN_SEAL_KEYS = env.kept_secret(
    "NODEADMIN_SEAL_KEYS", DATA_DIR / "secrets" / "seal-keys", lambda: Fernet.generate_key().decode()
)
NODEADMIN_AUDIT_KEY = env.kept_secret("NODEADMIN_AUDIT_KEY", DATA_DIR / "secrets" / "audit-key")
# Hashed names, but not compressed: over loopback that would only make the first start slower.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
