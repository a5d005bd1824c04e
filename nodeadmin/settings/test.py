"""For pytest: a database in a scratch directory, fixed keys, fast password hashes."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault(
    "NODEADMIN_DATA_DIR", str(Path(tempfile.gettempdir()) / f"nodeadmin-test-{os.getpid()}")
)

from nodeadmin import env
from nodeadmin.settings.base import *
from nodeadmin.settings.base import DATA_DIR, DATABASE_URL, DATABASES

NODEADMIN_PROFILE = "test"
SECRET_KEY = "test-only-and-long-enough-to-please-the-system-checks-0123456789"  # noqa: S105
NODEADMIN_SEAL_KEYS = "bm9kZWFkbWluLXRlc3QtaXMtbm90LWEtc2VjcmV0LTE="
NODEADMIN_AUDIT_KEY = "test-audit-key-0123456789-0123456789-0123456789"
NODEADMIN_ALLOW_TEST_URI = True
NODEADMIN_SWEEP_S = env.seconds("NODEADMIN_SWEEP_S", 0.2)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# In a file, not in memory: threads of the engine and a server under test open connections of their own.
if not DATABASE_URL:
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}
    # It has to outlive a process that is killed, and no machine that loses its power.
    DATABASES["default"]["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
(DATA_DIR / "static").mkdir(exist_ok=True)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
AXES_ENABLED = True
