//! Last values of subjects in a key/value bucket of JetStream, with a real NATS server: all servers share them, and they outlive all of
//! these.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_smol::Client;
use kcpq_std_server::{Backbone, Server};
use serde_json::json;
use support::edge::{self, client, stats, view};
use support::jetstream::{self, JetStream};
use support::nats::{self, Nats, NatsClient};
use support::wait::{soon, until};

/// What a bucket has of a key: headers and text.
fn get(there: &JetStream, name: &str, key: &str) -> Option<(String, String)> {
    let mut client = there.nats.client();
    client.subscribe("_INBOX.get", None);
    let question = json!({ "last_by_subj": format!("$KV.{name}.{key}") }).to_string();
    client.publish(&format!("$JS.API.DIRECT.GET.KV_{name}"), Some("_INBOX.get"), &question);
    let heard = client.next();
    (!heard.headers.starts_with("NATS/1.0 404")).then_some((heard.headers, heard.text))
}

/// How many messages it has ever taken.
fn taken(there: &JetStream, name: &str) -> u64 {
    jetstream::last(&mut there.nats.client(), &format!("KV_{name}"))
}

fn bind(nats: &Nats, bucket: &str) -> Server {
    edge::bind(Backbone { last_values: bucket.into(), ..edge::on(&[nats.url()]) })
}

/// The bucket is read, and has all that changed here.
async fn settled(server: &Server) {
    until("the bucket is read", || stats(server).values_read == 1 && stats(server).values_waiting == 0).await;
}

async fn keep(client: &Client, subject: &str, text: &str) {
    client.publish(subject, text).header("Unit", "K").retain().await.unwrap();
    client.flush().await.unwrap();
}

/// The values that a server has.
fn kept(server: &Server) -> BTreeMap<String, String> {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    server.kept().unwrap().iter().map(|value| (value.subject.to_string(), text(value.payload()))).collect()
}

fn values(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(subject, text)| ((*subject).to_owned(), (*text).to_owned())).collect()
}

/// What a client of NATS puts there, as `nats kv put` does.
fn put_there(there: &mut NatsClient, key: &str, text: &str) {
    there.publish(&format!("$KV.LAST.{key}"), None, text);
    there.flush();
}

#[test]
fn all_servers_have_one_set_of_values_and_it_outlives_them() {
    if !nats::is_there() {
        return;
    }
    let jetstream = JetStream::start("bucket");
    jetstream::create_bucket(&mut jetstream.nats.client(), "LAST");
    smol::block_on(async {
        let (first, second) = (bind(&jetstream.nats, "LAST"), bind(&jetstream.nats, "LAST"));
        settled(&first).await;
        settled(&second).await;
        let (near, far) = (client(&first).await, client(&second).await);
        let mut live = far.subscribe(">").await.unwrap();
        for (subject, text) in [("lamp", "on"), ("room.küche=1", "21"), ("door", "open")] {
            keep(&near, subject, text).await;
        }
        let all = values(&[("lamp", "on"), ("room.küche=1", "21"), ("door", "open")]);
        until("both have them", || kept(&first) == all && kept(&second) == all).await;
        settled(&first).await;
        let (headers, text) = get(&jetstream, "LAST", "room.k=C3=BCche=3D1").unwrap();
        assert!(text == "21" && headers.contains("Unit: K\r\n") && headers.contains("Kcpq-Edge: "), "{headers}");
        // Who was subscribed has got each once, as a message; who is later, as a value.
        for subject in ["lamp", "room.küche=1", "door"] {
            let message = soon("the message", live.next()).await.unwrap();
            assert_eq!((message.subject(), message.is_kept()), (subject, false));
        }
        let mut late = client(&second).await.subscribe("lamp").await.unwrap();
        let value = soon("the value", late.next()).await.unwrap();
        assert_eq!((&*value.text(), value.is_kept(), value.headers().get("Unit")), ("on", true, Some("K")));
        // The other way, and away again.
        keep(&far, "lamp", "off").await;
        keep(&far, "door", "").await;
        let all = values(&[("lamp", "off"), ("room.küche=1", "21")]);
        until("both have these", || kept(&first) == all && kept(&second) == all).await;
        settled(&second).await;
        assert!(get(&jetstream, "LAST", "door").unwrap().0.contains("KV-Operation: DEL\r\n"));
        // None goes round: five changes, and no more were put.
        assert_eq!((taken(&jetstream, "LAST"), stats(&first).values_out, stats(&second).values_out), (5, 3, 2));
        // What a client of NATS puts there is a message here, once at each server, and a value.
        let mut near_live = near.subscribe("mode").await.unwrap();
        let mut there = jetstream.nats.client();
        for text in ["auto", "hand"] {
            put_there(&mut there, "mode", text);
            assert_eq!(soon("the message", near_live.next()).await.unwrap().text(), text);
        }
        put_there(&mut there, "no=key", "1");
        until("both have it", || {
            [&first, &second].iter().all(|server| kept(server).get("mode").is_some_and(|mode| mode == "hand"))
        })
        .await;
        until("what is no key is counted", || stats(&first).values_unmapped == 1).await;
        assert!(poll_once(near_live.next()).await.is_none(), "once");
        assert_eq!(taken(&jetstream, "LAST"), 8);
        first.shutdown();
        second.shutdown();
        // Another one, later, has all of it.
        let third = bind(&jetstream.nats, "LAST");
        let all = values(&[("lamp", "off"), ("room.küche=1", "21"), ("mode", "hand")]);
        until("it has them", || kept(&third) == all).await;
        let mut received = client(&third).await.subscribe("lamp").await.unwrap();
        assert!(soon("the value", received.next()).await.unwrap().is_kept());
    });
}

#[test]
fn without_nats_values_are_kept_here_and_the_newest_counts_when_it_is_back() {
    if !nats::is_there() {
        return;
    }
    let mut jetstream = JetStream::start("bucket-away");
    jetstream::create_bucket(&mut jetstream.nats.client(), "LAST");
    smol::block_on(async {
        let (first, second) = (bind(&jetstream.nats, "LAST"), bind(&jetstream.nats, "LAST"));
        settled(&first).await;
        settled(&second).await;
        let (near, far) = (client(&first).await, client(&second).await);
        keep(&near, "a", "0").await;
        keep(&near, "gone", "0").await;
        until("both have them", || kept(&second).len() == 2).await;
        settled(&first).await;
        jetstream.nats.kill();
        for server in [&first, &second] {
            until("it is noticed", || stats(server).joined == 0).await;
        }
        keep(&near, "a", "older").await;
        keep(&near, "only.here", "1").await;
        keep(&near, "gone", "").await;
        until("they are kept here", || {
            kept(&first) == values(&[("a", "older"), ("only.here", "1")]) && stats(&first).values_waiting == 3
        })
        .await;
        // Times are told in milliseconds.
        smol::Timer::after(Duration::from_millis(20)).await;
        keep(&far, "a", "newer").await;
        let mut live = near.subscribe("a").await.unwrap();
        assert_eq!(soon("the value", live.next()).await.unwrap().text(), "older");
        jetstream.nats.restart();
        let all = values(&[("a", "newer"), ("only.here", "1")]);
        until("both have the newest", || kept(&first) == all && kept(&second) == all).await;
        settled(&first).await;
        settled(&second).await;
        assert_eq!(get(&jetstream, "LAST", "a").unwrap().1, "newer");
        assert_eq!(get(&jetstream, "LAST", "only.here").unwrap().1, "1");
        assert!(get(&jetstream, "LAST", "gone").unwrap().0.contains("KV-Operation: DEL\r\n"));
        // Who had the older one gets the newer one, once.
        keep(&far, "a", "end").await;
        for text in ["newer", "end"] {
            assert_eq!(soon("the message", live.next()).await.unwrap().text(), text);
        }
    });
}

#[test]
fn a_bucket_that_is_not_there_is_waited_for() {
    if !nats::is_there() {
        return;
    }
    let jetstream = JetStream::start("bucket-none");
    smol::block_on(async {
        let server = bind(&jetstream.nats, "LAST");
        until("it says why", || {
            view(&server).values_trouble.is_some_and(|why| why.contains("no stream stores messages of '$KV.LAST.>'"))
        })
        .await;
        let client = client(&server).await;
        keep(&client, "a", "1").await;
        until("it waits", || stats(&server).values_waiting == 1).await;
        assert_eq!(kept(&server), values(&[("a", "1")]));
        jetstream::create_bucket(&mut jetstream.nats.client(), "LAST");
        settled(&server).await;
        assert_eq!(get(&jetstream, "LAST", "a").map(|(_, text)| text).as_deref(), Some("1"));
        assert_eq!(view(&server).values_trouble, None);
        // What is larger than NATS takes is refused, and kept here.
        client.publish("large", vec![b'x'; 1_048_540]).retain().await.unwrap();
        until("it is refused", || stats(&server).values_refused == 1).await;
        assert_eq!(kept(&server).len(), 2);
        // A stop hands over what is left.
        keep(&client, "b", "2").await;
        server.shutdown();
        assert_eq!(get(&jetstream, "LAST", "b").map(|(_, text)| text).as_deref(), Some("2"));
    });
}
