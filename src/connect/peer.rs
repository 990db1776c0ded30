//! The other end of the connections, as errors name it: the host of the API, and the proxy on the way if there is one.
//!
//! reqwest takes the proxy from the environment, and ignores one that it does not understand. That is refused here: the
//! requests of a company that needs a proxy would all fail, or pass it by.

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::error::NoClient;
use crate::config::is_loopback;

/// Returns the host of the API, and the proxy that the environment names for it. Never a user or password.
pub(super) fn peer(base_url: &Url, variable: impl Fn(&str) -> Option<String>) -> Result<String, NoClient> {
    let host = base_url.host_str().unwrap_or_default();
    let host = base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let names: [&str; 4] = match base_url.scheme() {
        "https" => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        _ => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    };
    let first = |names: &[&'static str]| names.iter().find_map(|name| Some((*name, variable(name)?)));
    // reqwest ignores all proxies in a CGI program, as a client could set HTTP_PROXY there.
    let is_cgi = variable("REQUEST_METHOD").is_some();
    let Some((name, proxy)) = first(&names).filter(|_| !is_cgi && !is_loopback(base_url)) else { return Ok(host) };
    let excluded = first(&["NO_PROXY", "no_proxy"]).map(|(_, hosts)| hosts).unwrap_or_default();
    let unusable = || NoClient::Proxy { variable: name };
    let uri = base_url.as_str().parse().map_err(|_| unusable())?;
    if Matcher::builder().all("http://any").no(excluded).build().intercept(&uri).is_none() {
        return Ok(host);
    }
    let intercept = Matcher::builder().all(proxy).build().intercept(&uri).ok_or_else(unusable)?;
    let authority =
        intercept.uri().authority().filter(|authority| !authority.host().is_empty()).ok_or_else(unusable)?;
    let has_bad_port = authority.port_u16().is_none() && authority.as_str() != authority.host();
    if has_bad_port {
        return Err(unusable());
    }
    Ok(format!("{host} through the proxy {authority} ({name})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(base_url: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        peer(&base_url.parse().expect("a URL"), variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_proxy_is_the_one_that_reqwest_takes() {
        let api = "https://connect.instacart.com";
        let direct = Ok("connect.instacart.com".to_owned());
        let through = |proxy: &str| Ok(format!("connect.instacart.com through the proxy {proxy}"));
        for (variables, expected) in [
            (&[][..], direct.clone()),
            (&[("HTTP_PROXY", "http://10.0.0.1:3128")], direct.clone()),
            (&[("HTTPS_PROXY", "http://10.0.0.1:3128")], through("10.0.0.1:3128 (HTTPS_PROXY)")),
            (&[("https_proxy", "proxy.corp:3128")], through("proxy.corp:3128 (https_proxy)")),
            (&[("ALL_PROXY", "socks5://u:secret@[::1]:1080")], through("[::1]:1080 (ALL_PROXY)")),
            (&[("HTTPS_PROXY", "http://one"), ("ALL_PROXY", "http://two")], through("one (HTTPS_PROXY)")),
            (&[("HTTPS_PROXY", "http://one"), ("NO_PROXY", "other.com,.instacart.com")], direct.clone()),
            (&[("HTTPS_PROXY", "nonsense://"), ("no_proxy", "*")], direct.clone()),
            (&[("HTTPS_PROXY", "http://one"), ("REQUEST_METHOD", "GET")], direct.clone()),
        ] {
            assert_eq!(of(api, variables), expected, "{variables:?}");
        }
        assert_eq!(of("http://127.0.0.1:8080", &[("HTTP_PROXY", "http://one")]), Ok("127.0.0.1:8080".into()));
    }

    #[test]
    fn a_proxy_that_reqwest_would_ignore_is_refused() {
        for proxy in ["http://", "ftp://u:secret@one", "http://u:secret@one:port", "http://one two", "://", "8080:"] {
            let refusal = of("https://connect.instacart.com", &[("HTTPS_PROXY", proxy)]).expect_err(proxy);
            assert!(refusal.starts_with("HTTPS_PROXY ") && !refusal.contains("secret"), "{refusal}");
        }
    }
}
