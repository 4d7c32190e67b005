"""One settings file. What differs between demo, tests and production is read from the environment, strictly."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from webapp import logs, safety


def env_str(name: str, default: str) -> str:
    return os.environ.get(name, default)


def env_flag(name: str, default: bool) -> bool:
    value = os.environ.get(name, "1" if default else "0")
    if value not in {"0", "1"}:
        raise ImproperlyConfigured(f"{name} must be 0 or 1, not {value!r}")
    return value == "1"


def env_int(name: str, default: int, *, low: int, high: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal() or not low <= int(value) <= high:
        raise ImproperlyConfigured(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return int(value)


def env_zone(name: str, default: str) -> ZoneInfo:
    value = os.environ.get(name, default)
    try:
        return ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ImproperlyConfigured(f"{name} must be the name of a time zone (Europe/Berlin), not {value!r}") from None


def origin_of(address: str) -> str:
    """Scheme, host and port of an address that the site may speak to: https, or loopback."""
    parts = urlsplit(address)
    loopback = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or not (parts.scheme == "https" or loopback):
        raise ImproperlyConfigured(f"{address!r} must be an https address")
    return f"{parts.scheme}://{parts.netloc}"


def private_file(path: Path, *, size: int) -> bytes:
    """The bytes of a 0600 file that is made once, also when several processes start together."""
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(secrets.token_bytes(size))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # the first one wins, whole
        fresh.unlink()
    content = path.read_bytes()
    if len(content) != size:
        raise ImproperlyConfigured(f"{path} should hold {size} bytes and holds {len(content)}")
    return content


def key_file(variable: str, path: Path, *, size: int) -> bytes:
    """The key in the file that the variable names, or in the run directory. It is made there at the first start of a
    site of one machine; a site on PostgreSQL may have several, which must all have the same."""
    named = env_str(variable, "")
    path = Path(named) if named else path
    if named or env_str("HSVM_DATABASE", ""):
        if not path.is_file():
            raise ImproperlyConfigured(f"{variable}: there is no file {path}; {safety.MAKE_KEYS}")
        if not os.access(path, os.R_OK):
            raise ImproperlyConfigured(f"{variable}: {path} may not be read by this user")
    key = private_file(path, size=size)
    if fault := safety.readable_by_others(variable, path):
        raise ImproperlyConfigured(fault)
    return key


BASE_DIR = Path(__file__).resolve().parent.parent
RUN_DIR = Path(env_str("HSVM_RUN_DIR", str(BASE_DIR / ".run"))).resolve()
RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)

DEBUG = False
TLS = env_flag("HSVM_TLS", True)
BIND = env_str("HSVM_BIND", "127.0.0.1")
PORT = env_int("HSVM_PORT", 8000, low=1, high=65535)
LOOPBACK = BIND in {"127.0.0.1", "::1", "localhost"}
BEHIND_PROXY = env_flag("HSVM_BEHIND_PROXY", False)
if not TLS and not LOOPBACK:
    raise ImproperlyConfigured("HSVM_TLS=0 is allowed only together with a loopback HSVM_BIND")

STYLEGUIDE = not TLS and LOOPBACK  # the page of all components: development and demo only

SECRET_KEY = env_str("HSVM_SECRET_KEY", "") or key_file("HSVM_SECRET_KEY_FILE", RUN_DIR / "secret.key", size=48).hex()
# Seals checkpoints and signing keys at rest: a checkpoint holds page contents.
SEAL_KEY = key_file("HSVM_SEAL_KEY_FILE", RUN_DIR / "seal.key", size=32)

ALLOWED_HOSTS = [h for h in env_str("HSVM_HOSTS", "127.0.0.1,localhost,[::1]").split(",") if h]
SCHEME = "https" if TLS else "http"
# Sockets are accepted from these full origins only (scheme, host, port).
ORIGINS = [o for o in env_str("HSVM_ORIGINS", "").split(",") if o] or [
    f"{SCHEME}://{host}:{PORT}" for host in ALLOWED_HOSTS
]
CSRF_TRUSTED_ORIGINS = [o for o in ORIGINS if "*" not in o]
# Where people find the site: the beginning of every link in e-mails and webhooks.
SITE_URL = env_str("HSVM_SITE_URL", ORIGINS[0]).rstrip("/")

INSTALLED_APPS = [
    "webapp.ops",
    "webapp.lti",
    "webapp.shares",
    "webapp.courses",
    "webapp.classroom",
    "webapp.runs",
    "webapp.agreements",
    "webapp.fleet",
    "webapp.tenants",
    "webapp.notices",
    "webapp.accounts",
    "webapp.audit",
    "webapp.live",
    "django.contrib.admin.apps.SimpleAdminConfig",  # webapp/ops/support.py: nothing registers itself
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_vite",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
]

MIDDLEWARE = [
    "webapp.observed.ObservedMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # the cookie of the choice, else what the browser asks for
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "webapp.accounts.middleware.PersonMiddleware",
    "webapp.courses.guests.GuestMiddleware",
    "webapp.courses.preview.PreviewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "webapp.ops.kiosk.KioskMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "webapp.rest.middleware.ApiMiddleware",
    "webapp.pages.RefusalMiddleware",
]

ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "webapp" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.accounts.context.frame",
                "webapp.notices.context.bell",
            ],
        },
    }
]


DATABASE_POOL = env_int("HSVM_DATABASE_POOL", 12, low=2, high=200)


def database(url: str) -> dict[str, object]:
    """SQLite by default; postgres://user:password@host:port/name?sslmode=verify-full for sites of several machines.
    A password may stand in a file that the variable HSVM_DATABASE_PASSWORD_FILE names."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(RUN_DIR / "vpms.sqlite3"),
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",  # a deferred read-then-write fails with "database is locked"
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
            # Threads share an in-memory test database badly; a file behaves like the real one.
            "TEST": {"NAME": str(RUN_DIR / "test.sqlite3")},
        }
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.hostname or len(parts.path) < 2:
        raise ImproperlyConfigured("HSVM_DATABASE must read postgres://user:password@host:port/name")
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - {"sslmode", "sslrootcert"}):
        raise ImproperlyConfigured(f"HSVM_DATABASE: {unknown[0]!r} is not sslmode or sslrootcert")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or "") or secret_of("HSVM_DATABASE_PASSWORD_FILE"),
        "HOST": parts.hostname,
        "PORT": str(parts.port or 5432),
        "CONN_MAX_AGE": 0,  # the pool keeps connections; beside it, a connection kept by Django would go stale
        "CONN_HEALTH_CHECKS": True,  # the pool asks a connection before it gives it out: the server may have gone
        "OPTIONS": {
            **options,
            "pool": {
                "min_size": 1,
                "max_size": DATABASE_POOL,
                "timeout": 20,
                "max_idle": 60,
            },
        },
    }


def secret_of(variable: str) -> str:
    """What stands in the file that the variable names, without the end of the line; "" if it names none."""
    path = env_str(variable, "")
    if not path:
        return ""
    try:
        text = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ImproperlyConfigured(f"{variable}: {path} may not be read by this user, or is no text") from None
    if fault := safety.readable_by_others(variable, Path(path)):
        raise ImproperlyConfigured(fault)
    return text


REDIS_PASSWORDS = {  # each may stand in a file that this variable names
    "HSVM_REDIS": "HSVM_REDIS_PASSWORD_FILE",
    "HSVM_BROKER": "HSVM_BROKER_PASSWORD_FILE",
    "HSVM_CACHE": "HSVM_CACHE_PASSWORD_FILE",
}


def redis_url(variable: str, default: str) -> str:
    """The address under this variable, with its password."""
    url = env_str(variable, default)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"{variable} must read rediss://user:password@host:port/0 or unix:///path") from None
    named = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in {"unix", "redis", "rediss"} or not named:
        raise ImproperlyConfigured(f"{variable} must read rediss://user:password@host:port/0 or unix:///path")
    password = secret_of(REDIS_PASSWORDS[variable])
    if password and parts.password is None and parts.scheme != "unix":
        at = f"{parts.username or ''}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"
        url = parts._replace(netloc=at).geturl()
    return url


# Fewer than a process's connections, so that its websockets find one when all requests are at work.
REQUESTS_AT_ONCE = env_int("HSVM_REQUESTS_AT_ONCE", max(1, DATABASE_POOL - 2), low=1, high=DATABASE_POOL - 1)
DATABASE_URL = env_str("HSVM_DATABASE", "")
DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# One Valkey or Redis for everything in the demo. A site of several machines names one for each purpose: the broker's
# messages, the streams and hints of the live pages, and the cache (what an identity provider said of its keys).
REDIS_URL = redis_url("HSVM_REDIS", f"unix://{RUN_DIR / 'valkey.sock'}")
BROKER_URL = redis_url("HSVM_BROKER", REDIS_URL)
CACHE_URL = redis_url("HSVM_CACHE", "") if env_str("HSVM_CACHE", "") else ""
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": CACHE_URL}
    if CACHE_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
CELERY_BROKER_URL = BROKER_URL.replace("unix://", "redis+socket://", 1)
# Slices of runs; negotiations and starts; everything else. A worker takes from all three unless -Q names fewer.
QUEUES = ("slices", "policy", "house")
CELERY_TASK_QUEUES: dict[str, dict[str, str]] = {name: {} for name in QUEUES}
CELERY_TASK_DEFAULT_QUEUE = "house"
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_DB_REUSE_MAX = 1 << 40  # else Celery throws the pool of connections away with every task; webapp.celery tidies
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_MAX_TASKS_PER_CHILD = 2000
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 6,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 5,
    "socket_timeout": 5,  # else the keeper would wait for ever on a connection that died in silence
    "socket_connect_timeout": 5,
}


def mail_settings(url: str) -> dict[str, object]:
    """Where e-mails go: console:, file: (RUN_DIR/mail), or smtp://, smtp+tls://, smtps:// user:password@host:port."""
    if url == "console:":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if url == "file:":
        backend = "django.core.mail.backends.filebased.EmailBackend"
        return {"EMAIL_BACKEND": backend, "EMAIL_FILE_PATH": str(RUN_DIR / "mail")}
    parts = urlsplit(url)
    ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
    if parts.scheme not in ports or not parts.hostname:
        raise ImproperlyConfigured("HSVM_MAIL must be console:, file: or smtp[s|+tls]://user:password@host:port")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or ports[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or "") or secret_of("HSVM_MAIL_PASSWORD_FILE"),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
    }


globals().update(mail_settings(env_str("HSVM_MAIL", "console:")))
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = env_str("HSVM_MAIL_FROM", "vpms@localhost")


def webhook_hosts(text: str) -> list[str]:
    """Hosts and networks that webhooks may reach, with commas (webapp/notices/outgoing.py says how they are read)."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in entries:
        try:
            readable = bool(ipaddress.ip_network(entry) if "/" in entry else urlsplit(f"//{entry}").hostname)
            readable = readable and ("/" in entry or urlsplit(f"//{entry}").port != 0)
        except ValueError:
            readable = False
        if not readable:
            raise ImproperlyConfigured(f"HSVM_WEBHOOK_HOSTS: {entry!r} is no host, host:port or network")
    return entries


WEBHOOK_HOSTS = webhook_hosts(env_str("HSVM_WEBHOOK_HOSTS", ""))  # none: no webhook can be set up

LTI_PLATFORMS = env_str("HSVM_LTI_PLATFORMS", "")  # a file that names them (webapp/lti/platforms.py); none: no LTI

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/home/"
LOGOUT_REDIRECT_URL = "/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 15}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Seconds without use, and in all, after which a sign-in ends.
SESSION_PERSON = (8 * 3600, 7 * 24 * 3600)
SESSION_OPERATOR = (3600, 12 * 3600)
SESSION_COOKIE_AGE = SESSION_PERSON[0]
# Operators and teachers act only with a second factor. On loopback without TLS, which is the demo, it is offered and
# required only if HSVM_MFA=1; nowhere else can it be switched off. An organisation may demand it of its own people.
MFA_REQUIRED = TLS or env_flag("HSVM_MFA", False)
MFA_ADAPTER = "webapp.accounts.factors.SiteAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1
MFA_TOTP_ISSUER = "VPMS"
PASSWORD_RESET_TIMEOUT = 3600  # seconds for which a link to a new password is good
INVITATION_DAYS = 7

# One OpenID Connect provider, if the operator names it: no other is ever spoken to.
OIDC_ISSUER = env_str("HSVM_OIDC_ISSUER", "")
OIDC_ORIGINS = [origin_of(OIDC_ISSUER)] if OIDC_ISSUER else []
SOCIALACCOUNT_ADAPTER = "webapp.accounts.oidc.SocialAdapter"
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "oidc",
                "name": env_str("HSVM_OIDC_NAME", "the sign-in of your organisation"),
                "client_id": env_str("HSVM_OIDC_CLIENT_ID", ""),
                "secret": env_str("HSVM_OIDC_CLIENT_SECRET", ""),
                "settings": {"server_url": OIDC_ISSUER.rstrip("/"), "issuer": OIDC_ISSUER},
            }
        ]
        if OIDC_ISSUER
        else [],
    }
}

SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TLS
SESSION_COOKIE_NAME = "__Host-session" if TLS else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if TLS else "csrf"
SECURE_SSL_REDIRECT = TLS
SECURE_HSTS_SECONDS = 31_536_000 if TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF, *OIDC_ORIGINS],  # a form's redirect counts too
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576 + 4096
DATA_UPLOAD_MAX_NUMBER_FIELDS = 400

STATIC_URL = "/static/"
STATIC_ROOT = RUN_DIR / "static"  # of collectstatic; without it files are served from where they are
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "webapp" / "static"]
WHITENOISE_USE_FINDERS = True
DJANGO_VITE = {
    "default": {
        "dev_mode": False,
        "manifest_path": BASE_DIR / "webapp" / "static" / "live" / ".vite" / "manifest.json",
        "static_url_prefix": "live",
    }
}

USE_TZ = True
TIME_ZONE = "UTC"
SITE_ZONE = env_zone("HSVM_TIME_ZONE", "UTC")  # in which due times of courses are typed, told and counted
LANGUAGE_CODE = "en"
LOCALE_PATHS = [BASE_DIR / "webapp" / "locale"]
# English is in the sources; any other language is offered once its catalogue is compiled (webapp/catalogues.py).
LANGUAGES = [("en", "English")] + [
    (code, name)
    for code, name in [("de", "Deutsch")]
    if (LOCALE_PATHS[0] / code / "LC_MESSAGES" / "django.mo").exists()
]
LANGUAGE_COOKIE_NAME = "language"

# JSON, one object a line, for the machines that collect it in production; words for people in the demo.
LOGGING = logs.settings(level=env_str("HSVM_LOG", "INFO"), as_json=env_flag("HSVM_LOG_JSON", TLS))
# Who shows this token may read /metrics; without one it is read on loopback alone.
METRICS_TOKEN = env_str("HSVM_METRICS_TOKEN", "")
if METRICS_TOKEN and len(METRICS_TOKEN) < 32:
    raise ImproperlyConfigured("HSVM_METRICS_TOKEN must have at least 32 characters")
METRICS_SECONDS = env_int("HSVM_METRICS_SECONDS", 5, low=0, high=60)  # between two tellings of a process; 0: none
QUEUE_SECONDS = env_int("HSVM_QUEUE_SECONDS", 60, low=5, high=3600)  # a run that waits longer: not ready

# Pace and limits of the site, each in one place.
# A slice is planned for a quarter of a second. One that takes so long hangs: it is ended, and that is one of its three
# attempts. On a starved machine a sound one takes several seconds; it renews its lease, so nobody else begins it.
SLICE_HARD_SECONDS = 60
LEASE_SECONDS = 6
NEGOTIATION_DEADLINE_SECONDS = env_int("HSVM_NEGOTIATION_DEADLINE", 3600, low=1, high=604_800)
# How many times slower than its pace a run goes on, for machines with little to spare. What a slice does is the same.
# How often a host's checks are measured; one that was not for three times as long is unknown.
CHECK_SECONDS = env_int("HSVM_CHECK_SECONDS", 5, low=1, high=600)
SLOWER = env_int("HSVM_SLOWER", 1, low=1, high=100)
WORKER_SLOTS = env_int("HSVM_WORKER_SLOTS", 2, low=1, high=256)  # worker processes that the keeper keeps busy
TRACES = BASE_DIR / "hsvm_engine" / "traces"  # the recorded programs that a VM can run, one file each
# Calls of the REST API a minute, of one person, token or (without signing in) address; 0: not counted.
API_CALLS_PER_MINUTE = env_int("HSVM_API_CALLS_PER_MINUTE", 600, low=0, high=1_000_000)
API_WRITES_PER_MINUTE = env_int("HSVM_API_WRITES_PER_MINUTE", 120, low=0, high=1_000_000)

# Whether people may make links that open without an account.
SHARES_PUBLIC = env_flag("HSVM_SHARES_PUBLIC", False)

# For how many days `manage.py prune` keeps what is not kept for ever.
KEEP_CHECKPOINTS_DAYS = env_int("HSVM_KEEP_CHECKPOINTS_DAYS", 30, low=0, high=36_500)
KEEP_RUN_EVENTS_DAYS = env_int("HSVM_KEEP_RUN_EVENTS_DAYS", 365, low=0, high=36_500)
KEEP_MAILS_DAYS = env_int("HSVM_KEEP_MAILS_DAYS", 90, low=0, high=36_500)
KEEP_DELIVERIES_DAYS = env_int("HSVM_KEEP_DELIVERIES_DAYS", 90, low=0, high=36_500)
KEEP_NOTICES_DAYS = env_int("HSVM_KEEP_NOTICES_DAYS", 365, low=0, high=36_500)
KEEP_SESSIONS_DAYS = env_int("HSVM_KEEP_SESSIONS_DAYS", 7, low=1, high=36_500)
KEEP_GUESTS_DAYS = env_int("HSVM_KEEP_GUESTS_DAYS", 30, low=0, high=36_500)
KEEP_SHARES_DAYS = env_int("HSVM_KEEP_SHARES_DAYS", 30, low=0, high=36_500)
KEEP_INVITATIONS_DAYS = env_int("HSVM_KEEP_INVITATIONS_DAYS", 90, low=0, high=36_500)

# What an organisation may have at once, so that none takes the others' share (webapp/tenants/quotas.py); 0: no limit.
TENANT_STARTS = env_int("HSVM_TENANT_STARTS", 2_000, low=0, high=1_000_000)  # VMs that wait to start
TENANT_VMS = env_int("HSVM_TENANT_VMS", 10_000, low=0, high=1_000_000)
TENANT_RUNNING = env_int("HSVM_TENANT_RUNNING", 5_000, low=0, high=1_000_000)  # with those that wait to start
TENANT_MEMORY_MIB = env_int("HSVM_TENANT_MEMORY_MIB", 65_536, low=0, high=1 << 26)  # 1 MiB: 256 frames
TENANT_ACTS = env_int("HSVM_TENANT_ACTS", 500, low=0, high=1_000_000)  # on its VMs that wait
TENANT_STORAGE = env_int("HSVM_TENANT_STORAGE_MIB", 100, low=0, high=1 << 20) << 20  # programs and marked moments
TENANT_SOCKETS = env_int("HSVM_TENANT_SOCKETS", 500, low=0, high=1_000_000)  # open live pages of its people
PERSON_STORAGE = env_int("HSVM_PERSON_STORAGE_MIB", 200, low=0, high=1 << 20) << 20  # links and texts of courses
PERSON_SOCKETS = env_int("HSVM_PERSON_SOCKETS", 100, low=0, high=1_000_000)
# Of one uploaded program; 4 Mi of them are 36 MiB in a worker, which must have room for some.
TENANT_REFERENCES = env_int("HSVM_TENANT_REFERENCES", 4 << 20, low=1, high=4 << 20)

# Everything that would make the site unsafe, told at once, each in a sentence that names its variable.
_faults = safety.faults(
    tls=TLS,
    bind=BIND,
    hosts=ALLOWED_HOSTS if env_str("HSVM_HOSTS", "") else [],
    origins=ORIGINS,
    database=DATABASE_URL,
    database_password=str(DATABASES["default"].get("PASSWORD", "")),
    redis={"HSVM_REDIS": REDIS_URL, "HSVM_BROKER": BROKER_URL, "HSVM_CACHE": CACHE_URL},
    plain_hosts=[h for h in env_str("HSVM_PLAIN_HOSTS", "").split(",") if h],
    secret_key=SECRET_KEY,
)
if _faults:
    raise ImproperlyConfigured("\n".join(_faults))
