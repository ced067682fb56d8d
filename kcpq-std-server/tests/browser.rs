//! The client for browsers in one: against recorded frames, a real server, and the pages that use it.

#[path = "support/annex_b.rs"]
mod annex_b;
mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use annex_b::{AccessUnits, is_key};
use kcpq_smol::Client;
use serde_json::{Value, json};
use smol::Timer;
use support::browser::{self, Browser};
use support::folder::Folder;
use support::jetstream::JetStream;
#[cfg(feature = "nats")]
use support::nats;
use support::process::Process;
use support::program::kcpq;
use support::wait::LIMIT;

fn serve(args: &[&str]) -> (Process, String, SocketAddr) {
    let mut command = kcpq();
    command.args(["serve", "--register", "none", "--http-ws", "-l", "127.0.0.1:0"]).args(args);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT).parse().unwrap();
    (server, addr, http)
}

/// What a script returns that awaits; what it throws is a failure.
fn run(browser: &Browser, script: &str) -> Value {
    let wrapped = format!(
        "return (async () => {{ const kcpq = await import('/kcpq.js'); {script} }})().catch((error) => 'failed: ' + (error.stack || error))"
    );
    let value = browser.run(&wrapped);
    assert!(!value.as_str().unwrap_or_default().starts_with("failed: "), "{value:#}");
    value
}

fn wait_for(browser: &Browser, condition: &str) {
    let begun = Instant::now();
    while browser.run(&format!("return Boolean({condition})")) != true {
        let shown = browser.run("return document.body.innerText");
        assert!(begun.elapsed() < LIMIT, "waited too long: {condition}\n{}", shown.as_str().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn vectors(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../kcpq-core/tests/vectors").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_client_for_browsers_in_a_browser() {
    let Some(browser) = browser::start() else { return };
    let (server, addr, http) = serve(&["--http", "0"]);
    browser.go(&format!("http://{http}/telemetry.html"));
    frames_are_as_they_were_recorded(&browser);
    subjects_match_as_they_do_elsewhere(&browser);
    properties_come_back_as_they_went(&browser);
    messages_go_both_ways(&browser, &addr);
    connections_come_back(&browser, server, http);
}

fn frames_are_as_they_were_recorded(browser: &Browser) {
    let frames = vectors("frames.json");
    let whole = |row: &&Value| row["frame_hex"].is_string() && row["subject_hex"].is_string();
    let known: Vec<_> = frames["encode"].as_array().unwrap().iter().filter(whole).collect();
    assert!(known.len() > 20);
    let wrong = run(
        browser,
        &format!(
            "const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
             const hex = (all) => [...all].map((byte) => byte.toString(16).padStart(2, '0')).join('');
             return {rows}.filter((row) => {{
                 const [subject, payload] = [bytes(row.subject_hex), bytes(row.payload_hex)];
                 if (subject.length > 4096) {{
                     try {{ kcpq.encodeFrame(row.command, subject, payload); return true; }} catch {{ return false; }}
                 }}
                 const encoded = kcpq.encodeFrame(row.command, subject, payload);
                 const [frame, ...more] = kcpq.decodeFrames(encoded);
                 return hex(encoded) !== row.frame_hex || more.length || frame.command !== row.command
                     || hex(frame.subject) !== row.subject_hex || hex(frame.payload) !== row.payload_hex;
             }}).map((row) => row.name)",
            rows = json!(known)
        ),
    );
    assert_eq!(wrong, json!([]));
}

fn subjects_match_as_they_do_elsewhere(browser: &Browser) {
    let cases = vectors("subject_matching.json")["cases"].clone();
    let wrong = run(
        browser,
        &format!(
            "return {cases}.filter((row) => ['match', 'no match'].includes(row.nats)
                 && kcpq.matches(row.pattern, row.subject) !== (row.nats === 'match'))"
        ),
    );
    assert_eq!(wrong, json!([]));
    let hidden =
        "return [kcpq.matches('>', '$KCPQ.a'), kcpq.matches('$KCPQ.>', '$KCPQ.a'), kcpq.matches('*', '$KCPQX')]";
    assert_eq!(run(browser, hidden), json!([false, true, true]));
}

fn properties_come_back_as_they_went(browser: &Browser) {
    let script = "const written = kcpq.encodeProperties({ reply: 'a.b', headers: [['A', '1'], ['A', 'küche']], ttl: 1500.2, retain: true, confirm: 7 });
        const read = kcpq.decodeMessage(new Uint8Array([1, 2, ...written]));
        const broken = [[], [0], [9, 9], [0x41, 0, 0, 0, 3], [0x04, 0, 1, 9, 0, 4]].map((bytes) => kcpq.decodeMessage(new Uint8Array(bytes)));
        const refused = [{ 'a:b': '1' }, { '': '1' }, { a: 'x\\n' }].map((headers) => { try { kcpq.encodeProperties({ headers }); return 0; } catch { return 1; } });
        const store = kcpq.encodeProperties({ store: 258, id: 'ä' });
        const ids = ['x'.repeat(65), 'ä'.repeat(33), 'a\\u0085'].map((id) => { try { kcpq.encodeProperties({ store: 1, id }); return 0; } catch { return 1; } });
        return [[...read.payload], read.reply, read.headers, written.slice(-23, -2).length, broken, refused, kcpq.encodeProperties({}).length, [...store], ids]";
    let expected = json!([
        [1, 2],
        "a.b",
        [["A", "1"], ["A", "küche"]],
        21,
        [null, null, null, null, null],
        [1, 1, 1],
        0,
        [0x84, 0, 6, 0, 0, 1, 2, 0xc3, 0xa4, 0, 9],
        [1, 1, 1]
    ]);
    assert_eq!(run(browser, script), expected);
}

fn messages_go_both_ways(browser: &Browser, addr: &str) {
    run(
        browser,
        "window.client = await kcpq.connect({ name: 'the test' });
         window.got = [];
         await client.subscribe('from.native', (message) => got.push([message.text(), message.headers, message.reply ?? null]));
         await client.subscribe('double', (message) => message.respond(Number(message.text()) * 2, { headers: { By: 'page' } }));",
    );
    smol::block_on(async {
        let native = Client::builder().timeout(LIMIT).connect(addr).await.unwrap();
        native.publish("from.native", "hello").header("A", "1").await.unwrap();
        let answer = native.request("double", "21").within(LIMIT).await.unwrap();
        assert_eq!((answer.text().as_ref(), answer.headers().get("By")), ("42", Some("page")));

        let mut messages = native.subscribe("from.page").await.unwrap();
        let sessions = run(
            browser,
            "client.publish('from.page', 'plain');
             client.publish('from.page', new Uint8Array([0, 255]), { headers: { B: '2' }, ttl: 60000 });
             client.publish('kept', 'value', { retain: true });
             await client.flush();
             const unstored = await client.store('from.page', 'x').catch((error) => error.code);
             return [await client.confirm('from.page', 'x'.repeat(100000)), await client.confirm('to.nobody', ''), unstored];",
        );
        assert_eq!(sessions, json!([1, 0, "unsupported"]));
        assert_eq!(messages.next().await.unwrap().text(), "plain");
        let extended = messages.next().await.unwrap();
        assert_eq!((extended.payload(), extended.headers().get("B")), (&[0, 255][..], Some("2")));
        assert_eq!(messages.next().await.unwrap().payload().len(), 100_000);

        let sums = native.subscribe("sum").await.unwrap();
        let (answers, mut questions) = (native.clone(), sums);
        let answering = smol::spawn(async move {
            let question = questions.next().await.unwrap();
            question.respond(&answers, "3").await.unwrap();
        });
        let said = run(
            browser,
            "const sum = (await client.request('sum', '1 2')).text();
             const nobody = await client.request('nobody.is.there').catch((error) => error.code);
             const kept = await client.subscribe('kept');
             let first;
             for await (const message of kept) { first = [message.text(), message.isKept]; break; }
             const refused = await client.subscribe('a..b').catch((error) => error.code);
             const group = await client.subscribe('jobs', { queue: 'workers' });
             await group.unsubscribe();
             return [sum, nobody, first, refused, got];",
        );
        answering.await;
        assert_eq!(said, json!(["3", "nobody", ["value", true], "refused", [["hello", [["A", "1"]], null]]]));
        native.close().await.unwrap();
    });
}

fn connections_come_back(browser: &Browser, server: Process, http: SocketAddr) {
    run(
        browser,
        "window.back = 0;
         client.addEventListener('disconnect', () => window.gone = true);
         client.addEventListener('connect', () => window.back += 1);",
    );
    server.terminate();
    wait_for(browser, "window.gone");
    assert_eq!(
        run(browser, "try { client.publish('a', 'b'); return 'sent'; } catch (error) { return error.code; }"),
        "disconnected"
    );
    drop(server);
    let (_server, addr, _) = serve(&["--http", &http.port().to_string()]);
    wait_for(browser, "window.back === 1");
    smol::block_on(async {
        let native = Client::builder().timeout(LIMIT).connect(addr.as_str()).await.unwrap();
        native.publish("from.native", "again").await.unwrap();
        native.close().await.unwrap();
    });
    wait_for(browser, "window.got.length === 2");
    run(browser, "await client.close();");
}

#[test]
fn the_pages_of_telemetry_and_video_show_what_is_published() {
    let Some(browser) = browser::start() else { return };
    let (_server, addr, http) = serve(&["--http", "0"]);
    let stop = smol::channel::bounded::<()>(1);
    let publishing = {
        let (addr, stop) = (addr.clone(), stop.1);
        let video = video();
        smol::spawn(async move {
            let client = Client::builder().timeout(LIMIT).connect(addr.as_str()).await.unwrap();
            for number in 0u64.. {
                client.publish("sensors.kitchen", format!("{}", 20 + number % 5)).await.unwrap();
                client.publish("sensors.garden", format!("{{\"celsius\":{}}}", number % 7)).await.unwrap();
                if !video.is_empty() {
                    let unit = &video[number as usize % video.len()];
                    let key = if is_key(unit) { "yes" } else { "no" };
                    let (frame, sent) = (number.to_string(), (number * 33_000).to_string());
                    let headers = [("Frame", &*frame), ("Sent", &*sent), ("Key", key)];
                    client.publish("video.camera", unit).headers(headers).await.unwrap();
                }
                if stop.is_closed() {
                    break;
                }
                Timer::after(Duration::from_millis(20)).await;
            }
            client.close().await.unwrap();
        })
    };
    browser.go(&format!("http://{http}/telemetry.html"));
    wait_for(&browser, "document.querySelector('#state').textContent === 'Live'");
    for subject in ["sensors.kitchen", "sensors.garden"] {
        wait_for(&browser, &format!("document.querySelector('#figures').textContent.includes('{subject}')"));
    }
    let drawn = "[...document.querySelector('#canvas').getContext('2d').getImageData(0, 0, 1280, 640).data].some((byte) => byte > 0)";
    wait_for(&browser, drawn);

    browser.go(&format!("http://{http}/video.html"));
    wait_for(&browser, "document.querySelector('#state').textContent === 'Live'");
    let decodes =
        "const known = await VideoDecoder.isConfigSupported({ codec: 'avc1.42c01e' }); return known.supported;";
    if run(&browser, decodes) == true && ffmpeg_is_there() {
        let shown = "Number([...document.querySelectorAll('#figures div')].find((pair) => pair.firstChild.textContent === 'shown')?.lastChild.textContent)";
        wait_for(&browser, &format!("{shown} > 30 && document.querySelector('#canvas').width === 320"));
    } else {
        eprintln!("not played: this browser decodes no H.264, or ffmpeg is not installed");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
    drop(stop.0);
    smol::block_on(publishing);
}

#[cfg(feature = "nats")]
#[test]
fn a_page_is_told_where_a_message_is_stored() {
    let Some(browser) = browser::start() else { return };
    if !nats::is_there() {
        return;
    }
    let jetstream = JetStream::start("browser-stored");
    jetstream.create("ORDERS", json!({ "subjects": ["orders"], "max_msgs": 2, "discard": "new" }));
    let (server, _, http) = serve(&["--http", "0", "--nats", &jetstream.nats.url()]);
    server.expect_logged("the backbone is there", LIMIT);
    browser.go(&format!("http://{http}/telemetry.html"));
    let told = run(
        &browser,
        "const client = await kcpq.connect();
         const all = [];
         for (const [subject, id] of [['orders', 'a'], ['orders', 'a'], ['orders', ''], ['orders', 'b'], ['none', undefined]]) {
             all.push(await client.store(subject, 'x', { id, timeout: 30000 }).catch((error) => [error.code, error.message]));
         }
         await client.close();
         return all",
    );
    let at = |sequence: u64, duplicate: bool| json!({ "sequence": sequence, "duplicate": duplicate });
    let refused = [json!(["refused", "maximum messages exceeded"]), told[4].clone()];
    assert_eq!(told[4][0], "no_stream");
    assert_eq!(told, json!([at(1, false), at(1, true), at(2, false), refused[0], refused[1]]));
}

#[test]
fn what_the_module_exports_has_types() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/kcpq/serve/http/page");
    let [module, types] = ["kcpq.js", "kcpq.d.ts"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
    let exported = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("export "));
        let names = lines.filter_map(|line| line.split([' ', '(', '=', ':']).nth(1).map(str::to_owned));
        names.filter(|name| !name.is_empty()).collect()
    };
    let known = exported(&types);
    let names = exported(&module);
    assert!(names.len() > 6);
    for name in names {
        assert!(known.contains(&name), "{name} has no type");
    }
}

fn ffmpeg_is_there() -> bool {
    Command::new("ffmpeg").arg("-version").output().is_ok()
}

/// The access units of a small video; none where ffmpeg is missing.
fn video() -> Vec<Vec<u8>> {
    if !ffmpeg_is_there() {
        assert!(std::env::var_os("KCPQ_REQUIRE_FFMPEG").is_none(), "ffmpeg is not installed");
        return Vec::new();
    }
    let folder = Folder::new("browser-video");
    let file = folder.0.join("video.h264");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=30:duration=2"])
        .args(["-c:v", "libx264", "-profile:v", "baseline", "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p"])
        .args(["-f", "h264"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut units = AccessUnits::default();
    units.push(&std::fs::read(&file).unwrap());
    let mut all: Vec<_> = std::iter::from_fn(|| units.next().unwrap()).collect();
    all.extend(units.finish());
    all
}
