"""The names that do not belong into workflow code, by rule, with what to do instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Advice:
    code: str
    words: str


def _names(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NOW = Advice("P001", "gives another time in a replay: use perdure.now()")
_NAP = Advice("P001", "stops every execution of this process: use `await perdure.sleep(...)`")
_RANDOM = Advice("P002", "gives something else in a replay: use perdure.random(), which is recorded")
_UUID = Advice("P002", "gives another id in a replay: use perdure.uuid4(), which is recorded")
_IO = Advice("P003", "is done again in each replay, and may then end differently: do it in a step")
_ASK = Advice("P003", "waits for a person at this terminal: use `await perdure.interrupt(...)`")
_THREAD = Advice("P004", "leaves the workflow's loop, which cannot replay it: do it in a step")
_RUN = Advice("P004", "cannot run inside a workflow: await the coroutine itself")
_HASH = Advice("P006", "differs from process to process: use a key of the data itself")
_PLACE = Advice("P007", "may differ where the execution goes on: read it in a step, or pass it as an argument")
_SAID = Advice("P013", "says it again in each replay: use current().log, which is silent then")

CALLS: dict[str, Advice] = {}
"""What must not be called."""

for advice, names in (
    (_NOW, _names("time", "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time")),
    (_NOW, _names("datetime", "datetime.now datetime.utcnow datetime.today date.today")),
    (_NAP, ["time.sleep"]),
    (
        _RANDOM,
        _names(
            "random",
            "random randint randrange randbytes uniform triangular choice choices sample shuffle seed getrandbits"
            " gauss normalvariate lognormvariate expovariate betavariate gammavariate paretovariate vonmisesvariate"
            " weibullvariate binomialvariate SystemRandom",
        ),
    ),
    (_RANDOM, _names("secrets", "token_bytes token_hex token_urlsafe choice randbelow randbits SystemRandom")),
    (_RANDOM, _names("os", "urandom getrandom")),
    (
        _RANDOM,
        _names(
            "numpy.random",
            "rand randn randint random random_sample ranf sample choice bytes shuffle permutation seed uniform normal"
            " standard_normal poisson binomial exponential beta gamma",
        ),
    ),
    (_UUID, _names("uuid", "uuid1 uuid4 uuid6 uuid7")),
    (_ASK, ["builtins.input"]),
    (_IO, ["builtins.open", "io.open", "codecs.open", "shelve.open", "aiofiles.open", "sqlite3.connect"]),
    (
        _IO,
        _names(
            "os",
            "system popen remove unlink rename renames replace mkdir makedirs rmdir removedirs listdir scandir walk"
            " stat lstat open read write chmod chown link symlink readlink truncate utime access statvfs mkfifo kill"
            " fork path.exists path.lexists path.isfile path.isdir path.islink path.getsize path.getmtime"
            " path.getctime path.getatime",
        ),
    ),
    (_IO, _names("shutil", "copy copy2 copyfile copyfileobj copytree move rmtree make_archive unpack_archive which")),
    (
        _IO,
        _names("tempfile", "TemporaryFile NamedTemporaryFile TemporaryDirectory SpooledTemporaryFile mkstemp mkdtemp"),
    ),
    (_IO, _names("glob", "glob iglob")),
    (_IO, _names("requests", "get post put patch delete head options request")),
    (_IO, _names("httpx", "get post put patch delete head options request stream")),
    (_IO, ["aiohttp.request", *_names("urllib.request", "urlopen urlretrieve")]),
    (_IO, _names("socket", "create_connection create_server getaddrinfo gethostbyname socketpair")),
    (_IO, _names("psycopg", "connect Connection.connect AsyncConnection.connect")),
    (_IO, ["psycopg2.connect", "pymysql.connect", "aiosqlite.connect", "aiomysql.connect", "mysql.connector.connect"]),
    (_IO, _names("asyncpg", "connect create_pool")),
    (_IO, ["boto3.client", "boto3.resource", "redis.from_url", "redis.asyncio.from_url"]),
    (_THREAD, _names("threading", "Thread Timer")),
    (_THREAD, _names("multiprocessing", "Process Pool Manager pool.Pool pool.ThreadPool")),
    (_THREAD, _names("concurrent.futures", "ThreadPoolExecutor ProcessPoolExecutor")),
    (_THREAD, ["concurrent.futures.thread.ThreadPoolExecutor", "concurrent.futures.process.ProcessPoolExecutor"]),
    (_THREAD, _names("subprocess", "run call check_call check_output Popen getoutput getstatusoutput")),
    (
        _THREAD,
        _names(
            "asyncio",
            "to_thread create_subprocess_exec create_subprocess_shell open_connection start_server"
            " open_unix_connection start_unix_server run_coroutine_threadsafe",
        ),
    ),
    (_THREAD, ["anyio.to_thread.run_sync", "anyio.run_process", "anyio.open_process", "anyio.connect_tcp"]),
    (_RUN, _names("asyncio", "run Runner new_event_loop")),
    (_HASH, _names("builtins", "hash id")),
    (_PLACE, _names("os", "getenv getcwd getpid getppid uname getlogin cpu_count")),
    (_PLACE, ["socket.gethostname", "socket.getfqdn", "platform.node", "getpass.getuser"]),
    (_PLACE, _names("pathlib", "Path.cwd Path.home")),
    (_SAID, ["builtins.print"]),
    (_SAID, _names("logging", "debug info warning error exception critical log")),
):
    CALLS.update(dict.fromkeys(names, advice))

CLIENTS = frozenset(
    [
        *_names("requests", "Session session sessions.Session"),
        *_names("httpx", "Client AsyncClient"),
        *_names("aiohttp", "ClientSession"),
        *_names("socket", "socket"),
        *_names("http.client", "HTTPConnection HTTPSConnection"),
        *_names("smtplib", "SMTP SMTP_SSL"),
        *_names("ftplib", "FTP FTP_TLS"),
        *_names("redis", "Redis StrictRedis asyncio.Redis"),
        *_names("pymongo", "MongoClient AsyncMongoClient"),
        *_names("openai", "OpenAI AsyncOpenAI"),
        *_names("anthropic", "Anthropic AsyncAnthropic"),
        "sqlite3.connect",
        "psycopg.connect",
        "psycopg2.connect",
        "boto3.client",
        "redis.from_url",
        "redis.asyncio.from_url",
    ]
)
"""What makes an object that reaches outside: neither belongs into workflow code, nor do calls of its methods."""

CALLS.update(dict.fromkeys(CLIENTS, _IO))

CALLS_WITHOUT_ARGUMENTS = {
    **dict.fromkeys(_names("random", "Random"), _RANDOM),
    **dict.fromkeys(_names("numpy.random", "default_rng RandomState"), _RANDOM),
    **dict.fromkeys(_names("time", "localtime gmtime ctime asctime"), _NOW),
}
"""What must not be called without a seed, or without the time that is meant."""

READ = {"os.environ": _PLACE, "os.environb": _PLACE, "sys.argv": _PLACE}
"""What must not even be looked at."""

METHODS = {"run_in_executor": _THREAD}
"""Methods of names so distinct that it does not matter whose they are."""

PATH_METHODS = _words(
    "read_text read_bytes write_text write_bytes open unlink mkdir rmdir rename replace touch exists is_file is_dir"
    " is_symlink iterdir glob rglob walk stat lstat chmod symlink_to hardlink_to readlink samefile owner group"
    " resolve"
)
LOG_METHODS = _words("debug info warning error exception critical log")
MUTATING_METHODS = _words(
    "append extend insert pop remove clear update add discard setdefault popitem appendleft popleft sort reverse"
    " subtract"
)
COLLECTIONS = _words("list dict set bytearray defaultdict deque Counter OrderedDict")

IO = _IO
SAID = _SAID
