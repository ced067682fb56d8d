//! The page at `/`, in a browser.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kcpq_smol::Client;
use serde_json::Value;
use smol::Timer;
use support::browser::{self, Browser};
use support::process::Process;
use support::program::kcpq;
use support::wait::LIMIT;

fn serve() -> (Process, String, SocketAddr) {
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0", "--name", "garden"]);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT).parse().unwrap();
    (server, addr, http)
}

/// Asks the page again until it answers with true.
fn wait_for(browser: &Browser, condition: &str) {
    let begun = Instant::now();
    while browser.run(&format!("return {condition}")) != true {
        let shown = browser.run("return document.body.innerText");
        assert!(begun.elapsed() < LIMIT, "waited too long: {condition}\n{}", shown.as_str().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Names in the table of sessions.
fn clients(browser: &Browser) -> Value {
    browser
        .run("return [...document.querySelectorAll('#sessions tbody tr')].map((row) => row.cells[0].firstChild.data)")
}

#[test]
fn the_page_shows_what_happens_while_it_happens() {
    let Some(browser) = browser::start() else { return };
    let (server, addr, http) = serve();
    browser.go(&format!("http://{http}/"));
    wait_for(&browser, "document.querySelector('#state').textContent == 'Live'");
    assert_eq!(browser.run("return document.querySelector('#name').textContent"), "garden");
    assert_eq!(clients(&browser), serde_json::json!([]));
    assert_eq!(browser.run("return document.querySelector('#drops-calm').checkVisibility()"), true);

    // Messages flow until this is dropped.
    let flow = smol::spawn(async move {
        let builder = |name| Client::builder().name(name).timeout(LIMIT);
        let thermometer = builder("thermometer").connect(addr.as_str()).await.unwrap();
        let display = builder("<b>display</b>").connect(addr.as_str()).await.unwrap();
        let _subscription = display.subscribe("kitchen.*").latest().await.unwrap();
        loop {
            thermometer.publish("kitchen.oven", "180").await.unwrap();
            Timer::after(Duration::from_millis(5)).await;
        }
    });
    wait_for(&browser, "document.querySelectorAll('#sessions tbody tr').length == 2");
    // A name is a text, whatever it says.
    wait_for(&browser, "document.querySelector('#sessions').innerText.includes('<b>display</b>')");
    wait_for(&browser, "document.querySelector('#patterns tbody').innerText.includes('kitchen.*')");
    let moving = "Number(document.querySelector('.chart').dataset.value) > 0 \
        && document.querySelectorAll('.chart path.first')[1].getAttribute('d').includes('L')";
    wait_for(&browser, moving);
    wait_for(&browser, "parseFloat(document.querySelector('#figures dd').textContent) == 2");

    wait_for(&browser, "parseFloat(document.querySelector('#patterns td:nth-child(3)').textContent) > 0");

    // What is published is shown as it comes, and nothing more once it is not wanted.
    browser.run("document.querySelector('#patterns button.link').click()");
    wait_for(&browser, "document.querySelectorAll('#messages tbody tr').length > 3");
    wait_for(
        &browser,
        "document.querySelector('#messages [role=status]').textContent.startsWith('Watching kitchen.*')",
    );
    let shown =
        browser.run("return [...document.querySelectorAll('#messages tbody tr')[0].cells].map((it) => it.innerText)");
    assert_eq!((&shown[1], &shown[3]), (&"kitchen.oven".into(), &"180".into()), "{shown}");
    wait_for(&browser, "document.querySelector('#sessions').innerText.includes('kcpq page')");
    browser.run("document.querySelector('#messages [name=stop]').click()");
    wait_for(&browser, "!document.querySelector('#sessions').innerText.includes('kcpq page')");
    browser.run("document.querySelector('#messages input').focus()");
    browser.press("kitchen..x\u{e007}");
    wait_for(
        &browser,
        "document.querySelector('#messages [role=status]').textContent.startsWith('That is no pattern')",
    );
    // It asked for what there is not, which the browser notes.
    let said = browser.console();
    assert!(said.len() == 1 && said[0].contains("400"), "{said:?}");

    // By keyboard: the heads of columns are buttons, and say what they did.
    browser.run("document.querySelector('#sessions th button').focus()");
    browser.press("\u{e007}");
    wait_for(&browser, "document.querySelector('#sessions th').ariaSort == 'ascending'");
    wait_for(&browser, "document.querySelector('#sessions td').innerText.startsWith('<b>display')");
    browser.press("\u{e007}");
    wait_for(&browser, "document.querySelector('#sessions td').innerText.startsWith('thermometer')");
    browser.run("document.querySelector('#sessions input').focus()");
    browser.press("THERMO");
    wait_for(&browser, "document.querySelectorAll('#sessions tbody tr').length == 1");
    assert_eq!(clients(&browser), serde_json::json!(["thermometer"]));
    browser.run(
        "const input = document.querySelector('#sessions input'); input.value = ''; input.dispatchEvent(new Event('input'))",
    );
    wait_for(&browser, "document.querySelectorAll('#sessions tbody tr').length == 2");

    // Nothing is wider than a screen, and all that can be used has a name.
    for (width, scheme) in [(1360, "light"), (390, "dark")] {
        browser.look_as(width, 844, scheme);
        wait_for(&browser, &format!("document.documentElement.scrollWidth <= {width}"));
        assert_eq!(browser.run("return matchMedia('(prefers-color-scheme: dark)').matches"), scheme == "dark");
    }
    let nameless = "return [...document.querySelectorAll('button, input, select, a, svg, [role=region]')]\
        .filter((it) => !(it.innerText || it.labels?.length || it.ariaLabel || it.getAttribute('aria-labelledby')))\
        .map((it) => it.outerHTML)";
    assert_eq!(browser.run(nameless), serde_json::json!([]));

    // What stops is seen to stop.
    smol::block_on(flow.cancel());
    wait_for(&browser, "document.querySelectorAll('#sessions tbody tr').length == 0");
    assert_eq!(browser.console(), Vec::<String>::new());

    browser.run("document.querySelector('#pause').click()");
    wait_for(&browser, "document.querySelector('#state').textContent == 'Paused'");
    browser.run("document.querySelector('#pause').click()");
    wait_for(&browser, "document.querySelector('#state').textContent == 'Live'");
    drop(server);
    wait_for(&browser, "document.querySelector('#state').dataset.state == 'lost'");
}

#[test]
fn of_many_sessions_a_page_at_a_time_is_sent() {
    let Some(browser) = browser::start() else { return };
    let (_server, addr, http) = serve();
    let clients: Vec<Client> = smol::block_on(async {
        let mut clients = Vec::new();
        for index in 0..45 {
            // Names of clients are parts of programs.
            let name: &'static str = format!("client {index:02}").leak();
            clients.push(Client::builder().name(name).timeout(LIMIT).connect(addr.as_str()).await.unwrap());
        }
        clients
    });
    browser.go(&format!("http://{http}/"));
    wait_for(&browser, "document.querySelector('#sessions .count').textContent == '45'");
    browser.run("document.querySelector('#sessions th button').click()");
    wait_for(&browser, "document.querySelector('#sessions td').innerText.startsWith('client 00')");
    assert_eq!(self::clients(&browser).as_array().unwrap().len(), 20);
    for (first, text) in [("client 20", "21\u{2013}40 of 45"), ("client 40", "41\u{2013}45 of 45")] {
        browser.run("document.querySelectorAll('#sessions .pages button')[1].click()");
        wait_for(&browser, &format!("document.querySelector('#sessions td').innerText.startsWith('{first}')"));
        wait_for(&browser, &format!("document.querySelector('#sessions .pages span').textContent == '{text}'"));
    }
    // When the last page has gone, the one before it is shown.
    smol::block_on(async {
        for client in &clients[20..] {
            client.close().await.unwrap();
        }
    });
    wait_for(&browser, "document.querySelector('#sessions td').innerText.startsWith('client 00')");
    assert_eq!(browser.console(), Vec::<String>::new());
}
