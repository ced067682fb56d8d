//! JetStream of a NATS server, asked by its API.

use std::time::Duration;

use serde_json::{Value, json};

use super::folder::Folder;
use super::nats::{Nats, NatsClient};

/// How long [`JetStream::try_ask`] waits.
const SOON: Duration = Duration::from_millis(500);

/// A NATS server with JetStream, whose folder goes with it.
#[derive(Debug)]
pub(crate) struct JetStream {
    pub(crate) nats: Nats,
    _folder: Folder,
}

impl JetStream {
    /// Starts one; the name is its folder's.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(name: &str, args: &[&str]) -> Self {
        let folder = Folder::new(name);
        let store = folder.0.to_str().expect("a path of text");
        Self { nats: Nats::start(&[&["-js", "-sd", store], args].concat()), _folder: folder }
    }

    /// Asks for something by the API: what it says.
    ///
    /// # Panics
    ///
    /// If that is an error.
    pub(crate) fn ask(&self, what: &str, question: &Value) -> Value {
        ask(&mut self.nats.client(), what, question)
    }

    /// The same, whatever is said; `None` if nothing is, soon.
    pub(crate) fn try_ask(&self, what: &str, question: &Value) -> Option<Value> {
        try_ask(&mut self.nats.client(), what, question, SOON)
    }

    /// Makes a stream, with what else its configuration says.
    pub(crate) fn create(&self, name: &str, config: Value) {
        create(&mut self.nats.client(), name, config);
    }
}

/// Makes a stream at a server that a client has, with what else its configuration says.
pub(crate) fn create(client: &mut NatsClient, name: &str, mut config: Value) {
    config["name"] = name.into();
    config["storage"] = "file".into();
    ask(client, &format!("STREAM.CREATE.{name}"), &config);
}

/// Makes a bucket as `nats kv add` does.
pub(crate) fn create_bucket(client: &mut NatsClient, name: &str) {
    let config = json!({
        "subjects": [format!("$KV.{name}.>")], "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true,
        "deny_delete": true, "allow_direct": true,
    });
    create(client, &format!("KV_{name}"), config);
}

/// Asks for something by the API: what it says.
///
/// # Panics
///
/// If that is an error.
pub(crate) fn ask(client: &mut NatsClient, what: &str, question: &Value) -> Value {
    let answer = try_ask(client, what, question, super::wait::LIMIT).expect("JetStream answers");
    assert_eq!(answer["error"], Value::Null, "{what}: {answer}");
    answer
}

/// Where a stream has come to: the number of its last message, 0 if it never had one.
pub(crate) fn last(client: &mut NatsClient, stream: &str) -> u64 {
    ask(client, &format!("STREAM.INFO.{stream}"), &json!({}))["state"]["last_seq"].as_u64().expect("a number")
}

fn try_ask(client: &mut NatsClient, what: &str, question: &Value, within: Duration) -> Option<Value> {
    const INBOX: &str = "_INBOX.test.api";
    client.subscribe(INBOX, None);
    client.publish(&format!("$JS.API.{what}"), Some(INBOX), &question.to_string());
    let answer = client.try_next(within);
    client.unsubscribe();
    Some(serde_json::from_str(&answer?.text).expect("JSON"))
}
