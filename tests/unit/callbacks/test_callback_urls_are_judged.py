import pytest

from functions.callbacks.url_policy import CallbackPolicy, judge_address, judge_addresses, judge_url
from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings

PUBLIC = CallbackPolicy()
TESTING = CallbackPolicy.of(
    IngressSettings(callback_allow_http=True, callback_allow_private=True, port=8080)
)

REFUSED_URLS = {
    "U1 no scheme": (
        "hooks.example.com/x",
        "//hooks.example.com/x",
        "https:hooks.example.com",
        "https:/a.b",
        "",
    ),
    "U2 scheme": (
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "ftp://hooks.example.com/",
        "data:text/plain,x",
        "javascript:alert(1)",
        "ws://hooks.example.com/",
        "HTTPS+unix://x.example.com",
    ),
    "U3 http": ("http://hooks.example.com/",),
    "U4 userinfo": ("https://user:password@hooks.example.com/", "https://user@hooks.example.com/"),
    "U5 port": tuple(
        f"https://hooks.example.com:{port}/"
        for port in ("0", "22", "25", "6443", "9092", "99999", "80", "", "+443", "443:1")
    ),
    "U6 this host": (
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://0.0.0.0/",
        "https://[::]/",
        "https://127.255.255.254/",
    ),
    "U7 odd spellings": (
        "https://127.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://0/",
        "https://0x7f.1/",
        "https://1.1.1.1./",
        "https://1.1.1/",
        "https://1.1.1.0x1/",
        "https://01.1.1.1/",
    ),
    "U8 digits that are not ASCII": (
        "https://①②⑦.⓪.⓪.①/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127\u30020\u30020\u30021/",
    ),
    "U9 IPv4 inside IPv6": (
        "https://[::ffff:127.0.0.1]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b:1::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[::ffff:8.8.8.8]/",
    ),
    "U10 private": (
        "https://10.1.2.3/",
        "https://172.16.0.1/",
        "https://172.31.255.255/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://[fc00::1]/",
        "https://[fd12::1]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
    ),
    "U11 metadata": (
        "https://169.254.169.254/latest/",
        "https://[fd00:ec2::254]/",
        "https://168.63.129.16/",
        "https://metadata.google.internal/",
        "https://metadata/",
        "https://instance-data.ec2.internal/",
    ),
    "U12 special ranges": (
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://192.0.0.8/",
        "https://198.18.0.1/",
        "https://192.0.2.1/",
        "https://198.51.100.7/",
        "https://203.0.113.9/",
        "https://192.88.99.1/",
        "https://240.0.0.1/",
        "https://[ff02::1]/",
        "https://[2001:db8::1]/",
        "https://[2001::1]/",
        "https://[3fff::1]/",
        "https://[5f00::1]/",
        "https://[100::1]/",
    ),
    "U13 inside names": (
        "https://localhost/",
        "https://localhost./",
        "https://a.localhost/",
        "https://router.prod.svc/",
        "https://router.prod.svc.cluster.local/",
        "https://kubernetes.default/",
        "https://kubernetes/",
        "https://LOCALHOST/",
        "https://printer.lan/",
    ),
    "U17 two readings": (
        "https://good.example.com\\@127.0.0.1/",
        "https://good.example.com#@127.0.0.1/",
        "https://a@b@c.example.com/",
        "https://good.example.com\\.bad.example.com/",
        "https:///good.example.com/",
        "https://good.example.com/\\evil",
    ),
    "U18 blanks and controls": (
        "https://hooks.example.com/\t",
        "https://hooks.exa\nmple.com/",
        "https://hooks.example.com/\x00",
        "https://hooks.example.com/a b",
        " https://hooks.example.com/",
        "https://hooks.example.com/\r\nHost: x",
    ),
    "U19 strange hosts": (
        "https://%31%32%37.0.0.1/",
        "https://hooks.example.com%00.evil.com/",
        "https://hooks.example.com./",
        f"https://{'a' * 300}.example.com/",
        "https://hooks..example.com/",
        "https://.example.com/",
        "https://xn--a.example.com/",
        "https://xn--.example.com/",
        "https://xn--zzzzzzzzzz-99999999.example.com/",
        "https://ex\u0430mple.com/",
        "https://exa\u00admple.com/",
        "https://-a.example.com/",
        "https://a_b.example.com/",
        f"https://{'.'.join(['a' * 60] * 5)}.com/",
    ),
    "U20 size and form": (
        f"https://hooks.example.com/{'a' * 100_000}",
        "https://hooks.example.com/#fragment",
        "https://hooks.example.com/p\u00e4th",
    ),
}


@pytest.mark.parametrize(
    "url", [url for urls in REFUSED_URLS.values() for url in urls], ids=lambda url: repr(url[:60])
)
def test_a_url_that_could_lead_inside_is_refused(url):
    with pytest.raises(ApiError) as refusal:
        judge_url(url, PUBLIC)
    assert refusal.value.code == "callback_url_refused"
    assert refusal.value.status == 400
    assert "example" not in refusal.value.message
    assert "password" not in refusal.value.message


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://hooks.example.com/a/b?c=d", "hooks.example.com", 443, "/a/b?c=d"),
        ("https://Hooks.Example.COM", "hooks.example.com", 443, "/"),
        ("https://hooks.example.com:8443/%C3%A4", "hooks.example.com", 8443, "/%C3%A4"),
        ("https://hooks.example.com?x=1", "hooks.example.com", 443, "/?x=1"),
        ("https://xn--bcher-kva.example.com/", "xn--bcher-kva.example.com", 443, "/"),
        ("https://93.184.215.14/", "93.184.215.14", 443, "/"),
        ("https://[2606:2800:21f:cb07::1]/", "2606:2800:21f:cb07::1", 443, "/"),
    ],
)
def test_a_public_url_is_accepted_as_it_will_be_called(url, host, port, path):
    target = judge_url(url, PUBLIC)
    assert (target.host, target.port, target.path) == (host, port, path)


def test_an_allow_list_refuses_every_other_host():
    policy = CallbackPolicy.of(IngressSettings(callback_hosts="a.example.com, *.example.org"))
    judge_url("https://a.example.com/", policy)
    judge_url("https://x.example.org/", policy)
    for url in ("https://b.example.com/", "https://example.org/", "https://evilexample.org/"):
        with pytest.raises(ApiError):
            judge_url(url, policy)


def test_private_targets_are_reachable_only_where_the_operator_says_so():
    target = judge_url("http://127.0.0.1:40123/hook", TESTING)
    assert target.host_header == "127.0.0.1:40123"
    judge_url("http://localhost:40123/hook", TESTING)
    for url in (
        "http://169.254.169.254/",
        "http://0.0.0.0/",
        "http://[fd00:ec2::254]/",
        "http://224.0.0.1/",
    ):
        with pytest.raises(ApiError):
            judge_url(url, TESTING)


def test_a_callback_to_this_service_itself_is_refused():
    for host in ("127.0.0.1", "localhost", "[::1]"):
        with pytest.raises(ApiError, match="back to this service"):
            judge_url(f"http://{host}:8080/v1/chat/completions", TESTING)


def test_one_private_address_among_public_ones_refuses_them_all():
    with pytest.raises(ApiError):
        judge_addresses(["93.184.215.14", "10.0.0.1"], PUBLIC)
    with pytest.raises(ApiError):
        judge_addresses([], PUBLIC)
    assert str(judge_addresses(["93.184.215.14", "1.1.1.1"], PUBLIC)) == "93.184.215.14"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "fe80::1%eth0",
        "168.63.129.16",
        "nonsense",
        "",
    ],
)
def test_a_resolved_address_inside_is_refused(address):
    with pytest.raises(ApiError):
        judge_address(address, PUBLIC)
