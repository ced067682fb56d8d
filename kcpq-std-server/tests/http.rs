//! Monitoring over HTTP: what is shown, to whom, and that nobody who asks does any harm.

mod support;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use kcpq_smol::Client;
use serde_json::Value;
use support::folder::Folder;
use support::process::Process;
use support::program::kcpq;
use support::wait::{LIMIT, soon};

/// A server that is monitored: its address and that for HTTP.
fn serve(args: &[&str]) -> (Process, String, SocketAddr) {
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0"]).args(args);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT).parse().unwrap();
    (server, addr, http)
}

fn connect(http: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// What the server says to a request, until it closes the connection.
fn exchange(http: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = connect(http);
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Status, head and body of an answer.
fn ask(http: SocketAddr, method: &str, target: &str, host: &str) -> (u16, String, String) {
    let answer = exchange(http, &format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    (status, head.to_ascii_lowercase(), body.into())
}

fn get(http: SocketAddr, target: &str) -> String {
    let (status, head, body) = ask(http, "GET", target, &http.to_string());
    assert_eq!(status, 200, "{target}: {head}\n{body}");
    body
}

fn json(http: SocketAddr, target: &str) -> Value {
    serde_json::from_str(&get(http, target)).unwrap()
}

/// Asks again until the document shows it: what is shown may be a second old.
fn json_once(http: SocketAddr, target: &str, shows: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let document = json(http, target);
        if shows(&document) {
            return document;
        }
        assert!(begun.elapsed() < LIMIT, "{target}: {document:#}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Samples by name and labels.
fn metrics(http: SocketAddr) -> BTreeMap<String, f64> {
    let text = get(http, "/metrics");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

#[test]
fn documents_show_the_server_its_sessions_and_its_patterns() {
    let (_server, addr, http) = serve(&["--name", "garden"]);
    smol::block_on(async {
        let mut clients = Vec::new();
        for name in ["a", "b", "c"] {
            let client = Client::builder().name(name).timeout(LIMIT).connect(addr.as_str()).await.unwrap();
            let subscription = client.subscribe("all.*").await.unwrap();
            clients.push((client, subscription));
        }
        clients[1].0.publish("all.x", "hello").await.unwrap();
        clients[1].0.publish("nobody", "hello").await.unwrap();
        for (_, subscription) in &mut clients {
            soon("the message", subscription.next()).await.unwrap();
        }
        let varz = json_once(http, "/varz", |varz| varz["in_msgs"] == 2);
        assert_eq!(
            (&varz["server_name"], &varz["connections"], &varz["kinds"]["native"]),
            (&"garden".into(), &3.into(), &3.into())
        );
        assert_eq!((&varz["subscriptions"], &varz["out_msgs"], &varz["unrouted"]), (&3.into(), &3.into(), &1.into()));
        assert!(varz["transport"]["segments_in"].as_u64().unwrap() > 0);
        assert_eq!(varz["udp_receive_dropped"].is_u64(), cfg!(target_os = "linux"));

        let connz = json_once(http, "/connz?sort=msgs_from&limit=2", |connz| connz["connections"][0]["in_msgs"] == 2);
        assert_eq!((&connz["total"], &connz["num_connections"], &connz["limit"]), (&3.into(), &2.into(), &2.into()));
        let first = &connz["connections"][0];
        assert_eq!((&first["name"], &first["kind"], &first["unrouted"]), (&"b".into(), &"native".into(), &1.into()));
        assert!(first["rtt_seconds"].as_f64().unwrap() > 0.0 && first["path_mtu"].as_u64().unwrap() > 1_000);
        let cid = first["cid"].as_str().unwrap();
        assert_eq!(json(http, &format!("/connz?cid={cid}"))["connections"][0]["name"], "b");
        assert_eq!(json(http, "/connz?name=c")["total"], 1);
        assert_eq!(json(http, "/connz?kind=original")["total"], 0);
        // Whoever knows it is taken for the client.
        assert!(!get(http, "/connz").contains("native_id"));

        let subsz = json_once(http, "/subsz", |subsz| subsz["num_subscriptions"] == 3);
        let only = &subsz["subscriptions_list"][0];
        assert_eq!((&only["subject"], &only["subscribers"]), (&"all.*".into(), &3.into()));
        clients[0].0.publish("all.a", "x").await.unwrap();
        clients[0].0.flush().await.unwrap();
        let rated = json_once(http, "/subsz?sort=rate", |subsz| {
            subsz["subscriptions_list"][0]["msgs_rate"].as_f64().is_some_and(|rate| rate > 0.0)
        });
        assert!(rated["subscriptions_list"][0]["msgs_rate"].as_f64().unwrap() <= 2.0, "{rated}");
        assert_eq!(json(http, "/subsz?test=other")["total"], 0);
        assert_eq!(json(http, "/healthz"), serde_json::json!({ "status": "ok" }));
        assert!(get(http, "/").contains("/connz"));
    });
}

#[test]
fn what_is_not_a_question_is_refused_in_words() {
    let (_server, _, http) = serve(&[]);
    let host = http.to_string();
    for (method, target, host, status) in [
        ("GET", "/nothing", &*host, 404),
        ("POST", "/varz", &host, 405),
        ("DELETE", "/connz", &host, 405),
        ("GET", "/connz?sort=colour", &host, 400),
        ("GET", "/connz?limit=many", &host, 400),
        ("GET", "/connz?cid=x", &host, 400),
        ("GET", "/subsz?test=a..b", &host, 400),
        ("GET", "/live?sort=rtt", &host, 400),
        ("GET", "/live?connz.sort=colour", &host, 400),
        ("GET", "/varz", "stranger.example:8222", 403),
        ("GET", "/varz", "localhost:1", 200),
    ] {
        let (found, head, body) = ask(http, method, target, host);
        assert_eq!(found, status, "{method} {target} of {host}: {body}");
        assert!(head.contains("x-content-type-options: nosniff"));
        assert!(serde_json::from_str::<Value>(&body).is_ok());
    }
    let stranger = "GET /live HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n";
    assert!(exchange(http, stranger).unwrap().starts_with("HTTP/1.1 403"));
    let (status, head, body) = ask(http, "HEAD", "/varz", &host);
    assert_eq!((status, &*body), (200, ""), "{head}");
}

/// A page that runs nothing but what is a file of it can be made to do nothing for a stranger.
#[test]
fn the_page_is_told_to_ask_nobody_else() {
    let (_server, _, http) = serve(&[]);
    let browser = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*\r\n\r\n");
        exchange(http, &request).unwrap()
    };
    for (target, content) in [("/", "text/html"), ("/dashboard.js", "text/javascript"), ("/icon.svg", "image/svg+xml")]
    {
        let answer = browser(target);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("content-type: {content}")), "{answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{answer}");
    }
    // Who has no browser gets what can be read without one.
    assert!(get(http, "/").starts_with("kcpq\n") && browser("/").contains("<!doctype html>"));
}

#[test]
fn who_listens_is_told_every_second_and_gets_the_page_it_asked_for() {
    let (_server, addr, http) = serve(&[]);
    smol::block_on(async {
        let clients = [("a", "x.*"), ("b", "y")].map(async |(name, pattern)| {
            let client = Client::builder().name(name).timeout(LIMIT).connect(addr.as_str()).await.unwrap();
            let subscription = client.subscribe(pattern).await.unwrap();
            (client, subscription)
        });
        for client in clients {
            std::mem::forget(client.await);
        }
    });
    let mut events = listen(http, "?connz.sort=name&connz.limit=1&connz.search=B&subsz.search=x");
    let first = events.next().unwrap();
    assert_eq!((&first["connz"]["total"], &first["connz"]["connections"][0]["name"]), (&1.into(), &"b".into()));
    let patterns = serde_json::json!([{ "subject": "x.*", "subscribers": 1, "msgs_rate": null }]);
    assert_eq!(first["subsz"]["subscriptions_list"], patterns);
    assert_eq!(first["varz"]["connections"], 2);
    assert!(first["connz"]["connections"][0]["in_msgs_rate"].is_null());
    let second = events.next().unwrap();
    assert!(second["varz"]["uptime_seconds"].as_f64() > first["varz"]["uptime_seconds"].as_f64());
    // From one look to the next there are rates, and patterns come less often.
    assert_eq!(second["connz"]["connections"][0]["in_msgs_rate"], 0.0);
    assert!(second["subsz"].is_null());
}

/// What is said at `/live`, event by event.
fn listen(http: SocketAddr, query: &str) -> impl Iterator<Item = Value> + use<> {
    let mut stream = connect(http);
    stream.write_all(format!("GET /live{query} HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes()).unwrap();
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data: ")?).unwrap()))
}

/// Events at `/messages`.
fn watch(http: SocketAddr, pattern: &str) -> impl Iterator<Item = (String, Value)> + use<> {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /messages?pattern={pattern} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    std::iter::from_fn(move || {
        let event = lines.find_map(|line| Some(line.strip_prefix("event: ")?.to_owned()))?;
        let data = lines.find_map(|line| Some(line.strip_prefix("data: ")?.to_owned()))?;
        Some((event, serde_json::from_str(&data).unwrap()))
    })
}

#[test]
fn messages_are_shown_as_they_come_and_no_more_than_can_be_read() {
    let (_server, addr, http) = serve(&[]);
    for (target, why) in
        [("/messages", "pattern: it has to be said"), ("/messages?pattern=a..b", "pattern: invalid subject")]
    {
        let (status, _, body) = ask(http, "GET", target, "localhost");
        assert!(status == 400 && body.contains(why), "{body}");
    }
    let mut events = watch(http, "a.*");
    assert_eq!(events.next().unwrap(), ("watching".into(), serde_json::json!({ "pattern": "a.*" })));
    smol::block_on(async {
        let client = Client::builder().timeout(LIMIT).connect(addr.as_str()).await.unwrap();
        client.publish("a.text", "21.5").header("x", "y").await.unwrap();
        client.publish("b.other", "no").await.unwrap();
        client.flush().await.unwrap();
        let (event, data) = events.next().unwrap();
        let message = &data["messages"][0];
        assert_eq!((&*event, &message["subject"], &message["text"]), ("messages", &"a.text".into(), &"21.5".into()));
        assert_eq!((&message["size"], &message["headers"], &data["left_out"]), (&4.into(), &1.into(), &0.into()));
        // Far more subjects than are shown at once.
        for number in 0..2_000 {
            client.publish(&format!("a.{number}"), [0xff; 1_000]).await.unwrap();
        }
        client.publish("a.end", "").await.unwrap();
        client.flush().await.unwrap();
        let (mut shown, mut left_out) = (0, 0);
        for (_, data) in events {
            let messages = data["messages"].as_array().unwrap();
            assert!((1..=20).contains(&messages.len()), "{}", messages.len());
            shown += messages.len() as u64;
            left_out += data["left_out"].as_u64().unwrap();
            assert!(messages.iter().all(|message| message["hex"].as_str().is_none_or(|hex| hex.len() < 200)));
            if messages.last().unwrap()["subject"] == "a.end" {
                break;
            }
        }
        assert_eq!(shown + left_out, 2_001);
    });
    json_once(http, "/connz", |connz| connz["total"] == 0);
}

#[test]
fn messages_are_shown_only_where_the_configuration_and_the_rules_let_them() {
    let why = |http, pattern: &str| {
        let (event, data) = watch(http, pattern).next().unwrap();
        if event == "watching" { "watching".into() } else { data["why"].as_str().unwrap().to_owned() }
    };
    let (_server, _, http) = serve(&["--http-subscribe", "a.>", "--http-subscribe", "b"]);
    assert_eq!((why(http, "a.*"), why(http, "b")), ("watching".into(), "watching".into()));
    assert_eq!(why(http, "%3E"), "the configuration lets this page see a.>, b only");
    assert_eq!(json(http, "/varz")["http_subscribe"], serde_json::json!(["a.>", "b"]));
    let (_server, _, http) = serve(&["--http-subscribe", ""]);
    assert!(why(http, "a").contains("lets nobody see messages here"));

    let folder = Folder::new("watched");
    let rules = "http_subscribe = ['open.>', 'secret']\n[permissions.default]\nsubscribe = ['open.>']";
    let file = folder.write("kcpq.toml", rules);
    let (_server, _, http) = serve(&["--config", file.to_str().unwrap()]);
    assert_eq!(why(http, "open.a"), "watching");
    assert!(why(http, "secret").contains("does not permit"), "{}", why(http, "secret"));
    // On this machine no key is needed, whatever is the first address.
    let key = folder.0.join("key");
    assert!(kcpq().args(["key", "new"]).arg(&key).output().unwrap().status.success());
    let rules = format!("key_file = '{}'\nhttp_subscribe = '>'\n[anonymous]\nallowed = 'local'", key.display());
    let file = folder.write("kcpq.toml", &rules);
    let (_server, _, http) = serve(&["--config", file.to_str().unwrap()]);
    assert_eq!(why(http, "a"), "watching");
    let file = folder.write("kcpq.toml", &rules.replace("local", "sealed"));
    let (_server, _, http) = serve(&["--config", file.to_str().unwrap()]);
    assert_eq!(why(http, "a"), "watching", "with the server's key");
    // Unless it is said nothing is shown where there are rules.
    let file = folder.write("kcpq.toml", "[permissions.default]\nsubscribe = ['open.>']");
    let (_server, _, http) = serve(&["--config", file.to_str().unwrap()]);
    assert!(why(http, "open.a").contains("lets nobody see messages here"));
}

#[test]
fn metrics_are_what_prometheus_reads_and_never_go_back() {
    let (_server, addr, http) = serve(&[]);
    let before = metrics(http);
    assert_eq!(before["kcpq_sessions{kind=\"native\"}"], 0.0);
    assert_eq!(before["kcpq_messages_dropped_total{reason=\"slow_consumer\"}"], 0.0);
    smol::block_on(async {
        for round in 1..=3 {
            let client = Client::builder().timeout(LIMIT).connect(addr.as_str()).await.unwrap();
            client.publish("x", [0; 3_000]).await.unwrap();
            client.flush().await.unwrap();
            json_once(http, "/varz", |varz| varz["in_msgs"] == round && varz["connections"] == 1);
            let during = metrics(http);
            client.close().await.unwrap();
            json_once(http, "/varz", |varz| varz["connections"] == 0);
            let after = metrics(http);
            for (name, value) in &during {
                if name.contains("_total") {
                    assert!(after[name] >= *value, "{name} goes back from {value} to {}", after[name]);
                }
            }
            assert_eq!(after["kcpq_messages_received_total"], f64::from(round as u32));
            assert!(after["kcpq_messages_received_bytes_total"] > f64::from(round as u32) * 3_000.0);
            assert!(after["kcpq_segments_received_total"] > before["kcpq_segments_received_total"]);
            assert_eq!(after["kcpq_message_fan_out_bucket{le=\"0.0\"}"], f64::from(round as u32));
        }
        let client = Client::builder().timeout(LIMIT).connect(addr.as_str()).await.unwrap();
        let mut subscription = client.subscribe("y").await.unwrap();
        client.publish("y", "hello").await.unwrap();
        soon("the message", subscription.next()).await.unwrap();
        // However long it waited.
        let counts =
            |buckets: &Value| buckets.as_array().unwrap().iter().filter_map(|bucket| bucket[1].as_u64()).sum::<u64>();
        json_once(http, "/varz", |varz| counts(&varz["queueing_seconds"]["buckets"]) == 1);
        let after = metrics(http);
        assert_eq!(after["kcpq_message_fan_out_count"], 4.0);
        assert_eq!(after["kcpq_message_queueing_seconds_bucket{le=\"+Inf\"}"], 1.0);
        assert!(after["kcpq_message_queueing_seconds_bucket{le=\"0.0001\"}"] <= 1.0);
    });
    let open =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text;q=0.8, */*;q=0.1\r\n\r\n";
    let open = exchange(http, open).unwrap();
    assert!(open.contains("# TYPE kcpq_sessions_opened counter\n") && open.ends_with("# EOF\n"));
    // Who connects makes no new series.
    let names =
        |all: &BTreeMap<String, f64>| all.keys().filter(|name| !name.contains("share")).cloned().collect::<Vec<_>>();
    assert_eq!(names(&metrics(http)), names(&before));
    let text = get(http, "/metrics");
    let Ok(mut check) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn who_says_nothing_or_too_much_or_never_reads_keeps_nobody_out() {
    let (_server, addr, http) = serve(&[]);
    // More than there is room for: some say nothing, some begin and go on for ever, some never read what they asked for.
    let crowd: Vec<TcpStream> = (0..200)
        .map(|index| {
            let mut stream = connect(http);
            let words = [
                "",
                "GET /varz HTTP/1.1\r\nX: ",
                "GET /connz HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ][index % 4];
            let _ = stream.write_all(words.as_bytes());
            stream
        })
        .collect();
    assert_eq!(json(http, "/healthz")["status"], "ok");
    // One who listens and reads is told all the same, however many listen and do not.
    let mut events = listen(http, "");
    assert!((0..2).all(|_| events.next().is_some()));
    // A head without an end.
    let endless = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(1 << 20));
    let answer = exchange(http, &endless);
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_empty() || answer.starts_with("HTTP/1.1 4")));
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01"] {
        let mut stream = connect(http);
        let _ = stream.write_all(garbage.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{garbage:?}");
    }
    smol::block_on(async {
        let client = Client::builder().timeout(LIMIT).connect(addr.as_str()).await.unwrap();
        let mut subscription = client.subscribe("a").await.unwrap();
        for _ in 0..50 {
            assert_eq!(json(http, "/healthz")["status"], "ok");
            get(http, "/connz");
            client.publish("a", "b").await.unwrap();
            soon("the message", subscription.next()).await.unwrap();
        }
    });
    // Nobody who says nothing is waited for: the last of them has its connection closed as well.
    let mut last = connect(http);
    assert_eq!(last.read(&mut [0; 64]).unwrap(), 0);
    drop(crowd);
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_that_is_said() {
    let refused =
        kcpq().args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--http-open"));
    let usage = kcpq().args(["serve", "--http", "somewhere"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0.0.0.0:0", "--http-open"]);
    let mut server = Process::spawn(&mut command);
    let http: SocketAddr = server.expect_line("monitoring on http://", LIMIT).parse().unwrap();
    let near = SocketAddr::from(([127, 0, 0, 1], http.port()));
    // Where everybody may ask, it does not matter by which name.
    assert_eq!(ask(near, "GET", "/healthz", "server.example").0, 200);
}

#[test]
fn the_port_closes_with_the_server() {
    let (server, _, http) = serve(&["--linger", "100ms"]);
    let open = connect(http);
    server.terminate();
    assert!(server.wait(LIMIT).status.success());
    assert!(TcpStream::connect(http).is_err());
    drop(open);
}

/// A name that is not shown makes an alert that never comes and a panel that stays empty.
#[test]
fn alerts_and_dashboard_ask_for_what_is_shown() {
    // Nobody is there, which is shown as well.
    let (_server, _, http) = serve(&["--nats", "nats://127.0.0.1:1"]);
    let shown = get(http, "/metrics");
    let known = |name: &str| {
        // A histogram is three names.
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        shown.contains(&format!("# TYPE {name} "))
            || histogram.is_some_and(|name| shown.contains(&format!("# TYPE {name} histogram\n")))
    };
    for (file, text) in [
        ("alerts.yml", include_str!("monitoring/alerts.yml")),
        ("alerts_test.yml", include_str!("monitoring/alerts_test.yml")),
        ("grafana.json", include_str!("monitoring/grafana.json")),
    ] {
        let names =
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with("kcpq_"));
        let mut count = 0;
        for name in names {
            assert!(known(name), "{file}: {name}");
            count += 1;
        }
        assert!(count > 5, "{file}");
    }
    assert!(serde_json::from_str::<Value>(include_str!("monitoring/grafana.json")).is_ok());
}
