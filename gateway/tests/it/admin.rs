//! The admin API by its contract, and who may come.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use slackwater_gateway::{Admin, Gateway};

use crate::support::{admin_of, call, call_socket, config, gateway, stand_in, start, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_for_this_user_alone_and_goes_with_the_gateway() {
    let server = stand_in("/models/v1").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let mut config = config(&[server.address()]);
    config.admin = Some(Admin::Socket(path.clone()));
    let gateway = start(config.clone()).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let answer = call_socket(&path, "GET /replicas HTTP/1.1\r\n", "").await;
    assert_eq!(
        answer.json(),
        json!({"generation": 0, "replicas": [{
            "name": "r0", "url": format!("http://{}", server.address()), "state": "ready", "weight": 100,
            "version": null, "healthy": true, "in_flight": 0, "served": 0, "failed": 0,
        }]})
    );
    let error = Gateway::start(config.clone(), |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("a gateway answers there"), "{error}");
    gateway.stop();
    gateway.ended().await.unwrap();
    assert!(!path.exists());

    // One that was killed leaves its socket behind; the next one takes the place.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let gateway = start(config.clone()).await;
    assert_eq!(call_socket(&path, "GET /live HTTP/1.1\r\n", "").await.status, 200);
    gateway.stop();
    gateway.ended().await.unwrap();
    std::fs::write(&path, "a file of somebody's").unwrap();
    let error = Gateway::start(config, |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("something else"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_checked_and_none_is_half_done() {
    let server = stand_in("/models/v1").await;
    let gateway = gateway(&[server.address()]).await;
    let admin = admin_of(&gateway);
    let change =
        |body: &'static str| async move { call(admin, "PATCH /replicas/r0 HTTP/1.1\r\n", body).await };
    let before = call(admin, "GET /replicas/r0 HTTP/1.1\r\n", "").await.json();
    for (body, said) in [
        ("{\"state\": \"drained\"}", "drained"),
        ("{\"state\": \"drain\", \"weight\": 300}", "from 0 to 256"),
        ("{\"state\": \"drain\", \"weight\": -1}", "-1"),
        ("{\"state\": \"drain\", \"url\": \"ftp://a\"}", "http://HOST:PORT"),
        ("{\"wieght\": 3}", "wieght"),
        ("no JSON", "no change"),
    ] {
        let answer = change(body).await;
        assert_eq!(answer.status, 400, "{body}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(said), "{body}: {error}");
    }
    assert_eq!(call(admin, "GET /replicas/r0 HTTP/1.1\r\n", "").await.json(), before);

    let after = change("{\"state\": \"drain\", \"weight\": 7, \"version\": \"v1\"}").await.json();
    assert_eq!(
        (&after["state"], &after["weight"], &after["version"]),
        (&json!("drain"), &json!(7), &json!("v1"))
    );
    assert_eq!(change("{}").await.json()["version"], "v1");
    assert_eq!(change("{\"version\": null}").await.json()["version"], json!(null));
    assert_eq!(call(admin, "GET /replicas HTTP/1.1\r\n", "").await.json()["generation"], 3);

    for start in [
        "PATCH /replicas/r9 HTTP/1.1\r\n",
        "GET /replicas/r9 HTTP/1.1\r\n",
        "POST /replicas/r9/cut HTTP/1.1\r\n",
    ] {
        let answer = call(admin, start, if start.starts_with("PATCH") { "{}" } else { "" }).await;
        assert_eq!(answer.status, 404);
        assert!(answer.json()["error"].as_str().unwrap().contains("known: r0"), "{answer:?}");
    }
    assert_eq!(call(admin, "GET /nowhere HTTP/1.1\r\n", "").await.status, 404);
    let on_the_front = call(gateway.address(), "GET /replicas HTTP/1.1\r\n", "").await;
    assert!(
        !on_the_front.body.contains("generation"),
        "clients do not reach the admin API: {on_the_front:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_figures_tell_versions_apart() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v2").await);
    let mut config = config(&[one.address(), two.address()]);
    config.replicas[0].version = Some("v1".to_owned());
    config.replicas[1].version = Some("v2".to_owned());
    let gateway = start(config).await;
    for _ in 0..6 {
        assert!(stream(gateway.address(), 11).await.whole);
    }
    let admin = admin_of(&gateway);
    let live = call(admin, "GET /live HTTP/1.1\r\n", "").await.json();
    assert_eq!((&live["ttft_s"]["count"], &live["tpot_s"]["count"]), (&json!(6), &json!(6)));
    for version in ["v1", "v2"] {
        let of = &live["by_version"][version];
        assert_eq!(of["ttft_s"]["count"], 3, "{live}");
        // A step of the model takes 11.2 ms; the machine adds what it adds.
        let tpot = of["tpot_s"]["p50"].as_f64().unwrap();
        assert!((0.0105..0.1).contains(&tpot), "{live}");
        assert_eq!(of["error_rate"], 0.0);
    }
    let sum = live["rate_per_s"].as_f64().unwrap() * live["window_s"].as_f64().unwrap();
    assert!((sum - 6.0).abs() < 1e-6, "{live}");

    // A replica that fails shows in the error rate.
    for name in ["r0", "r1"] {
        let gone = "{\"url\": \"http://127.0.0.1:9\"}";
        assert_eq!(call(admin, &format!("PATCH /replicas/{name} HTTP/1.1\r\n"), gone).await.status, 200);
    }
    assert_eq!(stream(gateway.address(), 1).await.status, 502);
    let live = call(admin, "GET /live?over_s=600 HTTP/1.1\r\n", "").await.json();
    assert!((live["error_rate"].as_f64().unwrap() - 1.0 / 7.0).abs() < 1e-9, "{live}");
    assert_eq!(call(admin, "GET /live?over_s=0 HTTP/1.1\r\n", "").await.status, 400);
    assert_eq!(call(admin, "GET /live?over_s=x HTTP/1.1\r\n", "").await.status, 400);
}
