//! `/streamz`: the streams of the store behind the backbone.

use kcpq_std_server::StreamView;
use serde_json::{Value, json};

/// All of them, in the order of their names.
pub(super) fn document(mut streams: Vec<StreamView>) -> Value {
    streams.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: Vec<Value> = streams
        .iter()
        .map(|stream| {
            json!({
                "name": stream.name,
                "subjects": stream.subjects,
                "messages": stream.messages,
                "bytes": stream.bytes,
                "first_sequence": stream.first_sequence,
                "last_sequence": stream.last_sequence,
                "first_time": stream.first_time,
                "last_time": stream.last_time,
                "consumers": stream.consumers,
            })
        })
        .collect();
    json!({ "total": shown.len(), "streams_list": shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_by_their_names() {
        let named = |name: &str| {
            let mut stream = StreamView::default();
            stream.name = name.into();
            stream
        };
        let shown = document(vec![named("b"), named("a")]);
        assert_eq!((&shown["total"], &shown["streams_list"][0]["name"]), (&json!(2), &json!("a")));
    }
}
