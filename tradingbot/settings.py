"""All settings, from the environment, through typed readers. A bad value stops the boot with one line."""

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tradingbot import env
from tradingbot.core.environments import Environment, endpoints
from tradingbot.subscriptions import NUDGES as NUDGES
from tradingbot.subscriptions import ROUTES, SWEEPS

BASE_DIR = Path(__file__).resolve().parent.parent

# --- what is traded, where, and whether at all ---------------------------------------------------------
TRADING_ENVIRONMENT = Environment(
    env.choice("TRADING_ENVIRONMENT", Environment.SIMULATOR, [e.value for e in Environment])
)
TRADING_ENABLED = env.boolean("TRADING_ENABLED", False)
SIMULATOR_URL = env.url("SIMULATOR_URL", "http://127.0.0.1:9100", schemes={"http", "https"}).rstrip("/")
EXCHANGE = endpoints(TRADING_ENVIRONMENT, simulator_url=SIMULATOR_URL)
# The names of the two settings that hold this environment's key; another environment's are never read.
EXCHANGE_API_KEY = f"BINANCE_{TRADING_ENVIRONMENT.upper()}_API_KEY"
EXCHANGE_API_SECRET = f"BINANCE_{TRADING_ENVIRONMENT.upper()}_API_SECRET"
SYMBOLS = tuple(
    s.strip().upper() for s in env.text("SYMBOLS", "BTCUSDT,ETHUSDT,SOLUSDT").split(",") if s.strip()
)
# One connection and one lease each; three streams a symbol, and a connection carries 1,024 (binance.md §6).
SYMBOLS_PER_SHARD = env.integer("SYMBOLS_PER_SHARD", 100, minimum=1, maximum=341)
TRADES_KEPT_DAYS = env.integer("TRADES_KEPT_DAYS", 3, minimum=1, maximum=365)
QUOTE_ASSET = "USDT"
RECV_WINDOW_MS = env.integer("RECV_WINDOW_MS", 3000, minimum=500, maximum=60000)
EXCHANGE_TIMEOUT_SECONDS = env.integer("EXCHANGE_TIMEOUT_SECONDS", 12, minimum=1, maximum=60)
RECONCILE_GRACE_SECONDS = env.integer("RECONCILE_GRACE_SECONDS", 60, minimum=5, maximum=900)
MANUAL_REVIEW_AFTER_SECONDS = env.integer("MANUAL_REVIEW_AFTER_SECONDS", 600, minimum=10, maximum=3600)

# Let the exchange test (`order/test`) the first order of each symbol and environment before it is sent.
ORDER_TEST_FIRST = env.boolean("ORDER_TEST_FIRST", False)

# --- alerts and files ----------------------------------------------------------------------------------
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / ".data")))
# Addresses of alert channels and the key that signs Web Push are secrets: one file each, in here.
ALERT_SECRETS_DIR = DATA_DIR / "alert-channels"
AUDIT_ANCHORS_DIR = DATA_DIR / "audit-anchors"
# Where people reach the pages: what a notification links to.
PUBLIC_URL = env.url("PUBLIC_URL", "http://127.0.0.1:8000", schemes={"http", "https"}).rstrip("/")
ALERT_ESCALATE_AFTER_SECONDS = env.integer("ALERT_ESCALATE_AFTER_SECONDS", 300, minimum=30, maximum=3600)
# Only to these, or hosts below them, is a push message posted: a subscription names its own address.
PUSH_HOSTS = tuple(
    host.strip().lower()
    for host in env.text(
        "PUSH_HOSTS",
        "fcm.googleapis.com,updates.push.services.mozilla.com,notify.windows.com,push.apple.com",
    ).split(",")
    if host.strip()
)

# --- hard ceilings: no limit in the database may pass them ----------------------------------------------
RISK_CEILINGS = {
    "approval_threshold_quote": env.decimal(
        "CEILING_AUTO_APPROVE_QUOTE", "1000", minimum="0", maximum="100000"
    ),
    "order_notional_max_quote": env.decimal(
        "CEILING_ORDER_NOTIONAL_QUOTE", "10000", minimum="0", maximum="1000000"
    ),
    "gross_exposure_max_pct": env.decimal("CEILING_GROSS_EXPOSURE_PCT", "100", minimum="0", maximum="100"),
    "daily_loss_max_pct": env.decimal("CEILING_DAILY_LOSS_PCT", "20", minimum="0", maximum="100"),
    "drawdown_max_pct": env.decimal("CEILING_DRAWDOWN_PCT", "30", minimum="0", maximum="100"),
    "volatility_max_pct": env.decimal("CEILING_VOLATILITY_PCT", "20", minimum="0", maximum="100"),
}

# --- the advisor ---------------------------------------------------------------------------------------
REHEARSAL_MODEL_URL = "http://127.0.0.1:9101/v1"
OPENAI_BASE_URL = env.url("OPENAI_BASE_URL", REHEARSAL_MODEL_URL, schemes={"http", "https"}).rstrip("/")
ADVISOR_MODEL = env.text("ADVISOR_MODEL", "rehearsal-1")
ADVISOR_IS_REHEARSAL = ADVISOR_MODEL.startswith("rehearsal")
ADVISOR_TIMEOUT_SECONDS = env.integer("ADVISOR_TIMEOUT_SECONDS", 20, minimum=1, maximum=300)

# The function (symbol, now) -> proposals.contracts.AdvisorAccount; named here because imports run left only.
ADVISOR_ACCOUNT = "execution.selectors.advisor_account"
# The function (now, excluding) -> risk.contracts.Portfolio, for a gate that runs again on a waiting proposal.
GATE_PORTFOLIO = "execution.selectors.portfolio"
# The function (now) -> risk.contracts.KillPreview: what a kill would touch.
KILL_PREVIEW = "execution.selectors.kill_preview"
# The function () -> Decimal | None: the fee of one side, as a fraction, by which proposals are scored.
SCORE_FEE_RATE = "risk.selectors.fee_rate"
# The function (symbol, since) -> list[market.contracts.ChartMark]: orders and fills on the candle chart.
CHART_MARKS = "execution.selectors.chart_marks"
# The function () -> execution.contracts.ExchangeGateway; a rehearsal puts its in-process exchange here.
EXCHANGE_GATEWAY = "execution.adapters.binance.gateway"
# Entries take their stop and target to the exchange as an order list, and what is held is kept protected there.
PROTECT_ON_EXCHANGE = env.boolean("PROTECT_ON_EXCHANGE", True)
UNPROTECTED_MAX_SECONDS = 30  # something held without a stop on the exchange for longer is a critical alert

# --- Django ---------------------------------------------------------------------------------------------
SECRET_KEY = env.secret("SECRET_KEY")
DEBUG = False
ALLOWED_HOSTS = [h.strip() for h in env.text("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")]
CSRF_TRUSTED_ORIGINS = [o.strip() for o in env.text("TRUSTED_ORIGINS", "").split(",") if o.strip()]
ROOT_URLCONF = "tradingbot.urls"
ASGI_APPLICATION = "tradingbot.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "csp",
    "tradingbot.core",
    "market",
    "proposals",
    "risk",
    "execution",
    "tradingbot.operations",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["tradingbot.core.templatetags.desk"],
        },
    }
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
_secure = env.boolean("SECURE_COOKIES", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "worker-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "manifest-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
USE_THOUSAND_SEPARATOR = False
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False


# --- Postgres and Redis ---------------------------------------------------------------------------------
def _database(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or query.get("user", "")),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or query.get("host", ""),
        "PORT": str(parts.port or query.get("port", "")),
        # A connection for each of Celery's 25 tasks a second cost PostgreSQL more than the tasks did.
        "CONN_MAX_AGE": 0 if _pooled else 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "options": "-c lock_timeout=4000 -c idle_in_transaction_session_timeout=30000 "
            "-c statement_timeout=30000",
            **({"pool": {"min_size": 1, "max_size": 8, "timeout": 5}} if _pooled else {}),
        },
    }


_pooled = env.boolean("DATABASE_POOL", False)  # the web server's; Celery closes its connections by itself
DATABASES = {
    "default": _database(env.url("DATABASE_URL", None, schemes={"postgres", "postgresql"})),
}
REDIS_URL = env.url("REDIS_URL", None, schemes={"redis", "rediss", "unix"})
CACHE_PREFIX = f"tradingbot:{TRADING_ENVIRONMENT}"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": None, "max_connections": 500}],
            "prefix": CACHE_PREFIX,
        },
    }
}


def _broker(url: str) -> str:
    """Celery spells a Redis socket `redis+socket://`."""
    if url.startswith("unix://"):
        path, _, query = url.removeprefix("unix://").partition("?")
        return f"redis+socket://{path}?virtual_host={dict(parse_qsl(query)).get('db', '0')}"
    return url


# --- Celery (measured settings: reference/reliability.md §2.1, §2.4) -----------------------------------
CELERY_BROKER_URL = _broker(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "socket_timeout": 30,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "global_keyprefix": f"{CACHE_PREFIX}:celery:",
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 0, "interval_start": 0, "interval_max": 0.2}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_DEFAULT_QUEUE = "trading"
CELERY_TASK_ROUTES = {name: {"queue": queue} for name, queue in ROUTES.items()}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    name: {"task": name, "schedule": seconds, "options": {"expires": max(seconds, 1.0)}}
    for name, seconds in SWEEPS.items()
}

# --- logging --------------------------------------------------------------------------------------------
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "tradingbot.core.logs.RedactingFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # These write request lines with signatures at INFO or DEBUG (reference/reliability.md §4).
    "loggers": {
        name: {"level": "WARNING"}
        for name in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "websockets",
            "openai",
            "celery.beat",
            "celery.app.trace",
            "celery.worker.strategy",
            "binance",
            "picows",
        )
    }
    # At WARNING it quotes whole URLs, and those of alert channels hold their tokens in the path.
    | {"urllib3": {"level": "ERROR"}},
}
