//! The guard against real connections on this machine.

use super::*;
use reqwest::Client;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn url(text: &str) -> Url {
    Url::parse(text).expect("an address")
}

fn client(egress: &Egress, destination: Destination) -> Client {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = egress.client(destination).expect("a builder");
    builder.redirect(egress.redirects(destination)).build().expect("a client")
}

fn says(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A server that gives the same answer to every connection and counts them.
async fn server(answer: String) -> (u16, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *counted.lock().expect("not poisoned") += 1;
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, count)
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".into()
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// Names that answer what they are told to, one answer after the other.
fn names(answers: &[&[&str]]) -> Lookup {
    let answers: VecDeque<Vec<IpAddr>> =
        answers.iter().map(|list| list.iter().map(|ip| ip.parse().expect("an address")).collect()).collect();
    let answers = Arc::new(Mutex::new(answers));
    Arc::new(move |_| {
        let next = answers.lock().expect("not poisoned").pop_front();
        Box::pin(async move { next.ok_or_else(|| io::Error::other("asked once too often")) })
    })
}

#[test]
fn what_is_written_as_an_address_is_judged_as_one() {
    let egress = Egress::default();
    for text in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.1.2.3:8080/hook",
        "http://169.254.169.254/latest/meta-data/",
    ] {
        let refused = egress.check(&url(text), Destination::Public);
        assert!(matches!(refused, Err(EgressError::Private { .. })), "{text}: {refused:?}");
    }
    assert_eq!(egress.check(&url("https://1.1.1.1/"), Destination::Public), Ok(()));
    assert_eq!(egress.check(&url("http://127.0.0.1/"), Destination::Granted), Ok(()));
    assert!(
        egress.check(&url("http://169.254.169.254/"), Destination::Granted).is_err(),
        "metadata is never granted so"
    );
    assert!(egress.check(&url("file:///etc/passwd"), Destination::Granted).is_err());
}

#[test]
fn the_configuration_grants_ranges() {
    let ranges = ["10.0.0.0/8".to_owned(), "127.0.0.1".to_owned(), "169.254.169.254/32".to_owned()];
    let egress = Egress::new(&ranges, None).expect("good ranges");
    for text in ["http://10.9.8.7/", "http://127.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/"] {
        assert_eq!(egress.check(&url(text), Destination::Public), Ok(()), "{text}");
    }
    assert!(egress.check(&url("http://127.0.0.2/"), Destination::Public).is_err());
    assert!(egress.check(&url("http://192.168.0.1/"), Destination::Public).is_err());
    let wrong = Egress::new(&["10.0.0.0/40".to_owned()], None).expect_err("no range");
    assert!(wrong.to_string().contains("10.0.0.0/40"), "{wrong}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let (port, count) = server(ok()).await;
    let egress = Egress::default();
    let error = client(&egress, Destination::Public).get(format!("http://localhost:{port}/")).send().await;
    let words = says(&error.expect_err("refused"));
    assert!(words.contains("private address") && words.contains("network.allow_private"), "{words}");
    assert_eq!(*count.lock().expect("not poisoned"), 0, "nothing was connected to");
    let answer = client(&egress, Destination::Granted).get(format!("http://localhost:{port}/")).send().await;
    assert!(answer.expect("granted").status().is_success());
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_its_good_address_is_the_one_that_is_used() {
    let (port, count) = server(ok()).await;
    // The machine's own address is granted here so that there is something to connect to; the other stands for the
    // inside. A second lookup, for the connection, would get the inside.
    let egress = Egress::new(&["127.0.0.1".to_owned()], None)
        .expect("a good range")
        .with_lookup(names(&[&["10.0.0.1", "127.0.0.1"], &["10.0.0.1"]]));
    let asked = client(&egress, Destination::Public);
    let answer = asked.get(format!("http://rebind.example:{port}/")).send().await.expect("connected");
    assert!(answer.status().is_success());
    assert_eq!(*count.lock().expect("not poisoned"), 1);
    let error = asked.get(format!("http://rebind.example:{port}/")).send().await.expect_err("the second answer");
    assert!(says(&error).contains("10.0.0.1"), "{}", says(&error));
}

#[tokio::test]
async fn every_redirect_is_checked_like_the_first_address() {
    let (inside, reached) = server(ok()).await;
    // 127.0.0.1 is granted, 127.0.0.2 (the same machine) is not.
    for target in [format!("http://127.0.0.2:{inside}/"), format!("http://inner.example:{inside}/")] {
        let (port, _) = server(redirect(&target)).await;
        let egress = Egress::new(&["127.0.0.1".to_owned()], None).expect("good").with_lookup(names(&[&["127.0.0.2"]]));
        let asked = client(&egress, Destination::Public).get(format!("http://127.0.0.1:{port}/")).send().await;
        let words = says(&asked.expect_err("refused"));
        assert!(words.contains("private address"), "{target}: {words}");
    }
    assert_eq!(*reached.lock().expect("not poisoned"), 0);
    let (port, _) = server(redirect(&format!("http://127.0.0.1:{inside}/"))).await;
    let egress = Egress::new(&["127.0.0.1".to_owned()], None).expect("good");
    let followed = client(&egress, Destination::Public).get(format!("http://127.0.0.1:{port}/")).send().await;
    assert!(followed.expect("a good redirect").status().is_success());
}

#[tokio::test]
async fn a_grant_for_one_host_is_not_one_for_its_neighbours() {
    let (inside, reached) = server(ok()).await;
    let (port, _) = server(redirect(&format!("http://127.0.0.1:{inside}/"))).await;
    let asked = client(&Egress::default(), Destination::Granted).get(format!("http://127.0.0.1:{port}/")).send().await;
    assert!(says(&asked.expect_err("another port is another host")).contains("redirect leads away"));
    assert_eq!(*reached.lock().expect("not poisoned"), 0);
    let origins = Origins::of(["http://127.0.0.1:8081/bot", "no address"]);
    assert_eq!(origins.destination(&url("http://127.0.0.1:8081/other")), Destination::Granted);
    assert_eq!(origins.destination(&url("http://127.0.0.1:8082/")), Destination::Public);
    assert_eq!(origins.destination(&url("http://127.0.0.2:8081/")), Destination::Public);
}

#[test]
fn a_plugin_in_a_sandbox_goes_where_it_said_that_it_goes() {
    let anywhere = Origins::default();
    let some = Origins::default().only(["API.example.org".to_owned(), "*.cdn.example".to_owned()]);
    for (text, may) in [
        ("https://api.example.org/a", true),
        ("https://API.EXAMPLE.ORG:8443/", true),
        ("https://api.example.org.evil.test/", false),
        ("https://example.org/", false),
        ("https://eu.cdn.example/", true),
        ("https://a.b.cdn.example/", true),
        ("https://cdn.example/", false),
        ("https://evilcdn.example/", false),
        ("https://.cdn.example/", false),
        ("https://user@evil.test/?api.example.org", false),
        ("https://127.0.0.1/", false),
    ] {
        let Ok(url) = Url::parse(text) else { continue };
        assert_eq!(some.check(&url).is_ok(), may, "{text}");
        assert_eq!(anywhere.check(&url), Ok(()));
        assert_eq!(Origins::default().only(["*".to_owned()]).check(&url), Ok(()));
    }
    let reason = some.check(&url("https://evil.test/")).expect_err("is refused");
    assert!(reason.contains("\"evil.test\"") && reason.contains("api.example.org, *.cdn.example"), "{reason}");
    let reason = Origins::default().only([]).check(&url("https://evil.test/")).expect_err("is refused");
    assert!(reason.ends_with("(none)"), "{reason}");
}

#[tokio::test]
async fn sockets_go_through_the_same_guard() {
    let (port, _) = server(ok()).await;
    let egress = Egress::default();
    let refused = egress.connect("localhost", port, Destination::Public).await.expect_err("refused");
    assert!(refused.to_string().contains("private address"), "{refused}");
    egress.connect("127.0.0.1", port, Destination::Granted).await.expect("granted");
    egress.connect("[::ffff:169.254.169.254]", port, Destination::Granted).await.expect_err("never");
}

#[tokio::test]
async fn where_an_address_leads_is_known_before_it_is_set() {
    let egress = Egress::default().with_lookup(names(&[&["1.1.1.1"], &["1.1.1.1", "10.0.0.1"], &["169.254.169.254"]]));
    assert_eq!(egress.reach_of(&url("https://a.example/")).await, Ok(Reach::Public));
    assert_eq!(egress.reach_of(&url("https://b.example/")).await, Ok(Reach::Private));
    assert_eq!(egress.reach_of(&url("https://c.example/")).await, Ok(Reach::Special));
    assert!(matches!(egress.reach_of(&url("https://d.example/")).await, Err(EgressError::Unresolved { .. })));
    assert_eq!(egress.reach_of(&url("http://192.168.1.1/")).await, Ok(Reach::Private));
}

#[tokio::test]
async fn with_a_proxy_names_are_the_proxys_to_look_up() {
    let (port, count) = server(ok()).await;
    let proxy = format!("http://localhost:{port}");
    let egress = Egress::new(&[], Some(&proxy)).expect("a proxy").with_lookup(names(&[&["127.0.0.1"]]));
    let asked = client(&egress, Destination::Public).get("http://somewhere.example/").send().await;
    assert!(asked.expect("by way of the proxy").status().is_success());
    assert_eq!(*count.lock().expect("not poisoned"), 1);
    let wrong = Egress::new(&[], Some("socks5://user:hush@proxy.example")).expect_err("no HTTP proxy").to_string();
    assert!(!wrong.contains("hush"), "{wrong}");
}

#[tokio::test]
async fn sockets_go_by_way_of_the_proxy_and_no_further_inside() {
    let (port, count) = server("HTTP/1.1 200 Connection established\r\nvia: somebody\r\n\r\nhello".into()).await;
    let egress = Egress::new(&[], Some(&format!("http://localhost:{port}"))).expect("a proxy");
    let mut open = egress.connect("somewhere.example", 80, Destination::Public).await.expect("by way of the proxy");
    let mut first = [0; 5];
    open.read_exact(&mut first).await.expect("what comes through");
    assert_eq!(&first, b"hello", "nothing is lost behind the proxy's answer");
    for host in ["127.0.0.1", "[::1]", "169.254.169.254"] {
        let refused = egress.connect(host, 80, Destination::Public).await.expect_err("refused").to_string();
        assert!(refused.contains("private address"), "{refused}");
    }
    assert_eq!(*count.lock().expect("not poisoned"), 1, "only the name was asked for");
}

#[tokio::test]
async fn a_proxy_of_somebodys_own_is_let_through_or_not_like_any_address() {
    let (port, count) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let own = |host: &str| url(&format!("http://ann:hush@{host}:{port}"));
    let refused = Egress::default().by_way_of(own("127.0.0.1"), Destination::Public).expect_err("refused").to_string();
    assert!(refused.contains("private address") && !refused.contains("hush"), "{refused}");
    // A name is looked at when it is used.
    let named = Egress::default().by_way_of(own("localhost"), Destination::Public).expect("a name");
    let refused = named.connect("somewhere.example", 80, Destination::Public).await.expect_err("refused");
    assert!(refused.to_string().contains("localhost leads to the private address"), "{refused}");
    let refused = client(&named, Destination::Granted).get("http://somewhere.example/").send().await;
    assert!(says(&refused.expect_err("refused")).contains("localhost leads to the private address"));
    assert_eq!(*count.lock().expect("not poisoned"), 0, "nothing was connected to");
    let granted = Egress::default().by_way_of(own("localhost"), Destination::Granted).expect("granted");
    granted.connect("somewhere.example", 80, Destination::Public).await.expect("by way of it");
    assert!(client(&granted, Destination::Public).get("http://somewhere.example/").send().await.is_ok());
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("an address");
    let egress = Egress::new(&[], Some(&format!("http://{address}"))).expect("a proxy");
    let egress = egress.with_patience(Duration::from_millis(50));
    let error = egress.connect("somewhere.example", 80, Destination::Public).await.expect_err("no answer");
    assert_eq!(error.to_string(), format!("the proxy {address} does not answer"));
}

#[tokio::test]
async fn what_is_said_of_a_call_that_a_proxy_refuses_holds_no_password() {
    let refusal = "HTTP/1.1 407 hush\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhush";
    let (port, _) = server(refusal.into()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address").port();
    for (port, told) in [(port, "proxy authorization required"), (nobody, "tcp connect error")] {
        let egress = Egress::new(&[], Some(&format!("http://ann:hush@127.0.0.1:{port}"))).expect("a proxy");
        let refused = client(&egress, Destination::Public).get("https://somewhere.example/").send().await;
        let error = refused.expect_err("no way").without_url();
        let words = format!("{} {}", says(&error), tls::explain(&error));
        assert!(words.contains(told) && !words.contains("hush"), "{words}");
        assert!(!format!("{egress:?}").contains("hush"));
    }
}

#[test]
fn a_proxy_is_shown_without_who_uses_it() {
    let shown = |text| proxy::shown(&proxy::parse(text).expect("a proxy"));
    assert_eq!(shown("http://ann:hush@proxy.example:3128/"), "http://proxy.example:3128");
    assert_eq!(shown(" https://ann@[2606::1] "), "https://[2606::1]:443");
    for wrong in
        ["proxy.example:3128", "socks5://proxy.example", "http://proxy.example/path", "http://", "http://h?q=1"]
    {
        assert!(proxy::parse(wrong).is_err(), "{wrong}");
    }
}
