//! A browser without a window: Chromium, driven over WebDriver (W3C) by its chromedriver.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::folder::Folder;
use super::process::Process;
use super::wait::LIMIT;

/// One window. It closes with this.
#[derive(Debug)]
pub(crate) struct Browser {
    session: String,
    agent: ureq::Agent,
    /// The last to end, and then what both have left.
    _driver: Process,
    _folder: Folder,
}

/// `None` where there is no such browser; where the environment says that it has to be there that is a failure.
///
/// # Panics
/// If it does not start.
pub(crate) fn start() -> Option<Browser> {
    if Command::new("chromedriver").arg("--version").output().is_err() {
        assert!(std::env::var_os("KCPQ_REQUIRE_CHROMIUM").is_none(), "chromedriver is not installed");
        eprintln!("skipped: chromedriver is not installed");
        return None;
    }
    // Profiles and sockets lie there, and some stay.
    static BROWSERS: AtomicUsize = AtomicUsize::new(0);
    let folder = Folder::new(&format!("browser-{}", BROWSERS.fetch_add(1, Ordering::Relaxed)));
    let mut driver = Process::spawn(Command::new("chromedriver").arg("--port=0").env("TMPDIR", &folder.0));
    let port = driver.expect_line("ChromeDriver was started successfully on port ", LIMIT);
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).proxy(None).build().into();
    let session = format!("http://127.0.0.1:{}/session", port.trim_end_matches('.'));
    let mut browser = Browser { session, agent, _driver: driver, _folder: folder };
    // CI runs as root, without a GPU and with little shared memory.
    let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"];
    let wanted = json!({ "goog:chromeOptions": { "args": args }, "goog:loggingPrefs": { "browser": "ALL" } });
    let opened = browser.post("", &json!({ "capabilities": { "alwaysMatch": wanted } }));
    browser.session += &format!("/{}", opened["sessionId"].as_str().expect("a session"));
    Some(browser)
}

impl Browser {
    /// Goes to a page, and waits until it is there.
    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a function's body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Pretends to be a screen of this size, in pixels, and of this colour scheme.
    pub(crate) fn look_as(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &scheme);
    }

    /// Presses keys one after the other: U+E004 is Tab, U+E007 Enter.
    pub(crate) fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }));
    }

    /// What the page has said on its console, errors and violations of its policy included, since this was last asked
    /// for.
    pub(crate) fn console(&self) -> Vec<String> {
        let lines = self.post("/se/log", &json!({ "type": "browser" }));
        lines.as_array().into_iter().flatten().map(|line| line["message"].to_string()).collect()
    }

    fn devtools(&self, command: &str, params: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }));
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let sent = self.agent.post(&url).content_type("application/json").send(body.to_string());
        let mut answer = sent.unwrap_or_else(|error| panic!("{url}: {error}: {body}"));
        let text = answer.body_mut().read_to_string().expect("an answer");
        serde_json::from_str::<Value>(&text).expect("JSON")["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // So that Chromium ends before its driver is killed.
        let _ = self.agent.delete(&self.session).call();
    }
}
