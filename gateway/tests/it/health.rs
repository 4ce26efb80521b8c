//! Checks that rise and fall, and requests that notice sooner.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use slackwater_gateway::config::HealthConfig;
use slackwater_gateway::{Gateway, Patch, State};
use slackwater_replica::{Options, Profile, Server};

use crate::support::{config, stand_in, start, stream, until, view};

fn quick() -> HealthConfig {
    HealthConfig {
        interval: Duration::from_millis(40),
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 2,
        ..HealthConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_loads_is_given_nothing_until_it_is_ready() {
    let mut options = Options::new("/models/v1", Profile::find("h100-qwen3-14b").unwrap());
    options.start_up = "700ms".parse().unwrap();
    let loading = Server::start(options).await.unwrap();
    let ready = stand_in("/models/v2").await;
    let mut config = config(&[loading.address(), ready.address()]);
    config.health = quick();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let gateway = Gateway::start(config, move |name, healthy| {
        telling.lock().unwrap().push((name.to_owned(), healthy));
    })
    .await
    .unwrap();
    until("it is seen to load", || async { !view(&gateway, "r0").healthy }).await;
    for _ in 0..4 {
        assert!(stream(gateway.address(), 1).await.body.contains("v2-"));
    }
    until("it is seen to be ready", || async { view(&gateway, "r0").healthy }).await;
    let answers = [stream(gateway.address(), 1).await, stream(gateway.address(), 1).await];
    assert!(answers.iter().any(|answer| answer.body.contains("v1-")));
    assert_eq!(*told.lock().unwrap(), [("r0".to_owned(), false), ("r0".to_owned(), true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_is_noticed_by_a_request_and_comes_back_by_checks() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v2").await);
    let address = one.address();
    let mut config = config(&[address, two.address()]);
    config.health = HealthConfig { interval: Duration::from_secs(3600), ..quick() };
    let gateway = start(config).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    one.kill();
    one.ended().await.unwrap();
    for _ in 0..4 {
        let answer = stream(gateway.address(), 1).await;
        assert!(answer.whole && answer.body.contains("v2-"), "{answer:?}");
    }
    let seen = view(&gateway, "r0");
    assert!(!seen.healthy && seen.failed <= 1, "{seen:?}");

    // A new one at the same place: the operator's word is taken, and a look is had at once.
    let mut options = Options::new("/models/v3", Profile::find("h100-qwen3-14b").unwrap());
    options.listen = address;
    let _again = Server::start(options).await.unwrap();
    let set = |state| gateway.fleet().patch("r0", Patch { state: Some(state), ..Patch::default() });
    set(State::Drain).unwrap().unwrap();
    assert!(!view(&gateway, "r0").healthy);
    assert!(set(State::Ready).unwrap().unwrap().healthy);
    let answers = [stream(gateway.address(), 1).await, stream(gateway.address(), 1).await];
    assert!(answers.iter().any(|answer| answer.body.contains("v3-")), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_down_is_not_asked_and_one_that_drains_is() {
    let server = stand_in("/models/v1").await;
    let mut config = config(&[server.address(), server.address()]);
    config.health = quick();
    config.replicas[0].state = State::Down;
    config.replicas[1].state = State::Drain;
    let gateway = start(config).await;
    server.kill();
    server.ended().await.unwrap();
    until("the drained one is seen to be gone", || async { !view(&gateway, "r1").healthy }).await;
    assert!(view(&gateway, "r0").healthy, "nobody has looked");
    assert_eq!(stream(gateway.address(), 1).await.status, 503);
}
