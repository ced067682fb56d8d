//! Values as JSON.

mod support;

use std::collections::BTreeMap;

use kcpq_smol::Client;

use support::{Server, run};

#[test]
fn values_travel_as_json_and_what_is_none_is_an_error() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut received = client.subscribe("scores").await.unwrap();
        let scores = BTreeMap::from([("ann", 3), ("bob", 5)]);
        client.publish_json("scores", &scores).unwrap().header("Kind", "scores").await.unwrap();
        let message = received.next().await.unwrap();
        assert_eq!(message.text(), r#"{"ann":3,"bob":5}"#);
        // Names are those in the message.
        assert_eq!(message.json::<BTreeMap<&str, i32>>().unwrap(), scores);
        assert!(message.json::<Vec<i32>>().is_err());
        // Keys that are no text are none in JSON.
        assert!(client.publish_json("scores", &BTreeMap::from([([1, 2], 3)])).is_err());
        client.publish("scores", "{").await.unwrap();
        assert!(received.next().await.unwrap().json::<BTreeMap<&str, i32>>().unwrap_err().is_eof());
    });
}

#[test]
fn requests_and_answers_are_values_as_well() {
    let server = Server::start();
    run(async {
        let [asking, answering] =
            [Client::connect(server.addr).await.unwrap(), Client::connect(server.addr).await.unwrap()];
        let mut questions = answering.subscribe("sum").await.unwrap();
        let answers = smol::spawn(async move {
            let question = questions.next().await.unwrap();
            let numbers: Vec<i64> = question.json().unwrap();
            question.respond_json(&answering, &numbers.iter().sum::<i64>()).unwrap().await.unwrap();
            answering.flush().await.unwrap();
        });
        let sum = asking.request_json("sum", &[1, 2, 3]).unwrap().within(support::LIMIT).await.unwrap();
        assert_eq!(sum.json::<i64>().unwrap(), 6);
        answers.await;
    });
}
