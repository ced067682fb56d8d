//! A program on tokio: a service that adds up, and who asks it. The server is a part of it here.

use std::error::Error;
use std::time::Duration;

use kcpq_smol::{Client, Subscription};
use kcpq_std_server::{Config, Server};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Sum {
    of: Vec<i64>,
    is: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, ..Config::default() })?;
    let addr = server.local_addr();

    let service = Client::connect(addr).await?;
    let questions = service.subscribe("sum").await?;
    let answering = tokio::spawn(answer(service.clone(), questions));

    let client = Client::connect(addr).await?;
    let answer = client.request_json("sum", &[1, 2, 3])?.within(Duration::from_secs(2)).await?;
    let sum: Sum = answer.json()?;
    println!("the sum of {:?} is {}", sum.of, sum.is);

    client.close().await?;
    service.close().await?;
    answering.await?;
    server.shutdown();
    Ok(())
}

/// Answers until the client is closed.
async fn answer(service: Client, mut questions: Subscription) {
    while let Some(question) = questions.next().await {
        let Ok(numbers) = question.json::<Vec<i64>>() else {
            eprintln!("no numbers: {}", question.text());
            continue;
        };
        let sum = Sum { is: numbers.iter().sum(), of: numbers };
        match question.respond_json(&service, &sum) {
            Ok(answer) => {
                if let Err(error) = answer.await {
                    eprintln!("not answered: {error}");
                }
            }
            Err(error) => eprintln!("no JSON: {error}"),
        }
    }
}
