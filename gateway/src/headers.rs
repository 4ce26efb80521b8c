//! Which headers go through, and which belong to one connection only.

use std::net::IpAddr;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What RFC 9110 (7.6.1) and its predecessors name as of one connection.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes out what is of this connection only: the list above, and whatever `Connection` names.
pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Whether the client wants to speak something else from here on. `h2c` may be ignored, and is.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(UPGRADE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// Makes a client's headers a replica's. Lengths are set anew from the body.
pub(crate) fn toward_replica(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    client: IpAddr,
    request_id: &HeaderValue,
) {
    drop_hop_by_hop(headers);
    headers.remove(EXPECT);
    headers.remove(CONTENT_LENGTH);
    if let Some(asked) = headers.insert(HOST, host.clone()) {
        headers.insert(FORWARDED_HOST, asked);
    }
    append(headers, FORWARDED_FOR, &client.to_string());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    append(headers, VIA, "1.1 slackwater");
    headers.insert(REQUEST_ID, request_id.clone());
}

/// Makes a replica's headers a client's.
pub(crate) fn toward_client(headers: &mut HeaderMap, request_id: &HeaderValue) {
    drop_hop_by_hop(headers);
    append(headers, VIA, "1.1 slackwater");
    headers.insert(REQUEST_ID, request_id.clone());
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let before: Vec<&str> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let all = before.into_iter().chain([value]).collect::<Vec<_>>().join(", ");
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(name, value);
    }
}

/// The client's id if it is one: printable and not long. Anything else is not carried on into logs.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    const LONGEST: usize = 128;
    let id = headers.get(REQUEST_ID)?;
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\\';
    (!id.is_empty() && id.len() <= LONGEST && id.as_bytes().iter().all(plain)).then(|| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_names_stays_here() {
        let mut there = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("expect", "100-continue"),
            ("host", "api.example"),
            ("authorization", "Bearer key"),
            ("x-forwarded-for", "10.0.0.1"),
        ]);
        let (host, id) = (HeaderValue::from_static("127.0.0.1:9"), HeaderValue::from_static("id-1"));
        toward_replica(&mut there, &host, "192.0.2.7".parse().unwrap(), &id);
        let mut left: Vec<(&str, &str)> =
            there.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("authorization", "Bearer key"),
                ("host", "127.0.0.1:9"),
                ("via", "1.1 slackwater"),
                ("x-forwarded-for", "10.0.0.1, 192.0.2.7"),
                ("x-forwarded-host", "api.example"),
                ("x-forwarded-proto", "http"),
                ("x-request-id", "id-1"),
            ]
        );
    }

    #[test]
    fn ids_that_could_confuse_a_log_are_replaced() {
        assert_eq!(request_id(&headers(&[("x-request-id", "a-1")])), Some(HeaderValue::from_static("a-1")));
        for wrong in ["", "a b", "a\"b", "a\\b"] {
            assert_eq!(request_id(&headers(&[("x-request-id", wrong)])), None, "{wrong}");
        }
    }
}
