//! The query string: what Consul's clients put there, read as Consul reads it.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use consul_api::GoDuration;
use portolan_model::Instance;

use super::error::{BadQuery, Error};

/// The query string as pairs. Parameters that no endpoint knows are ignored, as Consul ignores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Params(Result<Vec<(String, String)>, BadQuery>);

/// What a reader of the catalog asks for besides the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The index it has seen; `None` wants an answer at once.
    pub(super) index: Option<u64>,
    /// How long it is ready to wait; `None` leaves it to the server.
    pub(super) wait: Option<Duration>,
    /// How fresh the answer must be.
    pub(super) consistency: Consistency,
}

/// How fresh an answer must be. There is one book, so that every answer is the freshest; clients hear their own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    Leader,
    Stale,
    Consistent,
}

impl Consistency {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Stale => "stale",
            Self::Consistent => "consistent",
        }
    }
}

/// Parameters that narrow the answer in ways not understood here: to ignore them would answer with too much.
const UNSUPPORTED: [&str; 4] = ["filter", "node-meta", "peer", "sg"];

impl Params {
    /// Whether the JSON is for people. Consul looks only whether the parameter is there.
    pub(super) fn pretty(&self) -> bool {
        self.pairs().is_ok_and(|pairs| pairs.iter().any(|(key, _)| key == "pretty"))
    }

    /// What a reader of the catalog asks for; refuses what cannot be given.
    pub(super) fn asked(&self, datacenter: &str) -> Result<Asked, Error> {
        let (stale, cached) = (self.is_there("stale")?, self.is_there("cached")?);
        let consistent = self.is_there("consistent")?;
        if consistent && (stale || cached) {
            return Err(BadQuery::Conflict(if stale { "stale" } else { "cached" }).into());
        }
        self.without_tenants()?;
        for name in UNSUPPORTED {
            if self.said(name)?.is_some() {
                return Err(BadQuery::Unsupported(name).into());
            }
        }
        let wait = self.parsed::<GoDuration>("wait", BadQuery::Wait)?.and_then(GoDuration::positive);
        let index = self.parsed("index", BadQuery::Index)?.filter(|index| *index > 0);
        self.within(datacenter)?;
        let consistency = match (stale, consistent) {
            (true, _) => Consistency::Stale,
            (_, true) => Consistency::Consistent,
            (false, false) => Consistency::Leader,
        };
        Ok(Asked { index, wait, consistency })
    }

    /// What a writer of keys asks for; refuses what cannot be given. Gives the index that `cas` says.
    pub(super) fn asked_of_keys(&self, datacenter: &str) -> Result<Option<u64>, Error> {
        self.without_tenants()?;
        self.within(datacenter)?;
        for name in ["acquire", "release"] {
            if self.is_there(name)? {
                return Err(BadQuery::NotOfKeys(name, "no sessions").into());
            }
        }
        if self.parsed::<u64>("flags", BadQuery::Number("flags"))?.is_some_and(|flags| flags != 0) {
            return Err(BadQuery::NotOfKeys("flags", "no flags but 0").into());
        }
        if !self.is_there("cas")? {
            return Ok(None);
        }
        // Taking it for absent would overwrite what it is there to protect.
        let index = self.parsed("cas", BadQuery::Number("cas"))?;
        index.map_or_else(|| Err(BadQuery::Number("cas").into()), |index| Ok(Some(index)))
    }

    fn without_tenants(&self) -> Result<(), Error> {
        for (name, noun) in [("ns", "Namespaces"), ("partition", "Partitions")] {
            if !matches!(self.said(name)?, None | Some("default")) {
                return Err(BadQuery::Enterprise(name, noun).into());
            }
        }
        Ok(())
    }

    fn within(&self, datacenter: &str) -> Result<(), Error> {
        if self.said("dc")?.is_some_and(|dc| dc != datacenter) {
            return Err(Error::UnknownDatacenter);
        }
        Ok(())
    }

    /// Whether only instances are wanted all of whose checks pass. The parameter alone, without a value, means yes.
    pub(super) fn passing(&self) -> Result<bool, Error> {
        let Some((_, value)) = self.pairs()?.iter().find(|(key, _)| key == "passing") else {
            return Ok(false);
        };
        match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(BadQuery::Passing.into()),
        }
    }

    /// An instance's words about how it fares; there may be none.
    pub(super) fn note(&self) -> Result<String, Error> {
        Ok(self.said("note")?.unwrap_or_default().to_owned())
    }

    /// The tags that an instance must all carry, in lower case: Consul compares them so.
    pub(super) fn tags(&self) -> Result<Tags, Error> {
        let tags = self.pairs()?.iter().filter(|(key, value)| key == "tag" && !value.is_empty());
        Ok(Tags(tags.map(|(_, value)| value.to_lowercase()).collect()))
    }

    fn parsed<T: FromStr>(&self, name: &str, bad: BadQuery) -> Result<Option<T>, Error> {
        self.said(name)?.map(|value| value.parse().map_err(|_| bad.into())).transpose()
    }

    /// The first value of a parameter, unless it is empty.
    pub(super) fn said(&self, name: &str) -> Result<Option<&str>, Error> {
        let first = self.pairs()?.iter().find(|(key, _)| key == name);
        Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()))
    }

    /// Whether a parameter is there, with a value or without.
    pub(super) fn is_there(&self, name: &str) -> Result<bool, Error> {
        Ok(self.pairs()?.iter().any(|(key, _)| key == name))
    }

    fn pairs(&self) -> Result<&[(String, String)], Error> {
        self.0.as_deref().map_err(|bad| bad.clone().into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let pairs = Query::try_from_uri(&parts.uri);
        Ok(Self(pairs.map(|Query(pairs)| pairs).map_err(|bad| BadQuery::Malformed(bad.to_string()))))
    }
}

/// Tags to select by, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tags(Vec<String>);

impl Tags {
    pub(super) fn accept(&self, instance: &Instance) -> bool {
        let carried = &instance.registration.tags;
        self.0.iter().all(|wanted| carried.iter().any(|tag| tag.to_lowercase() == *wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Params(Ok(pairs))
    }

    #[test]
    fn what_is_asked() {
        #[track_caller]
        fn check(query: &str, expect: Result<(Option<u64>, Option<u64>, &str), &str>) {
            let got = params(query).asked("dc1").map_err(|error| error.to_string());
            let got = got.map(|asked| {
                (asked.index, asked.wait.map(|wait| wait.as_secs()), asked.consistency.as_str())
            });
            assert_eq!(got, expect.map_err(str::to_owned), "{query}");
        }
        check("", Ok((None, None, "leader")));
        check("index=&wait=", Ok((None, None, "leader")));
        check("index=0&wait=0s", Ok((None, None, "leader")));
        check("index=7&wait=60000ms", Ok((Some(7), Some(60), "leader")));
        check("index=7&wait=-5s", Ok((Some(7), None, "leader")));
        check("index=18446744073709551615&wait=10m", Ok((Some(u64::MAX), Some(600), "leader")));
        check("stale&dc=dc1&ns=default&near=_agent&whatever=1", Ok((None, None, "stale")));
        check("consistent", Ok((None, None, "consistent")));
        check("cached&stale=", Ok((None, None, "stale")));
        check("index=-1", Err("Invalid index"));
        check("index=abc", Err("Invalid index"));
        check("index=1&wait=10", Err("Invalid wait time"));
        check("index=x&wait=x", Err("Invalid wait time"));
        check("dc=mars", Err("No path to datacenter"));
        check("stale&consistent", Err("Cannot specify ?stale with ?consistent, conflicting semantics."));
        check("cached&consistent", Err("Cannot specify ?cached with ?consistent, conflicting semantics."));
        check(
            "ns=foo",
            Err("Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature"),
        );
        check("filter=", Ok((None, None, "leader")));
        check("filter=a==b", Err("?filter is not supported: leave it out and select on your side"));
    }

    #[test]
    fn passing_is_a_go_boolean() {
        #[track_caller]
        fn check(query: &str, expect: Result<bool, &str>) {
            let got = params(query).passing().map_err(|error| error.to_string());
            assert_eq!(got, expect.map_err(str::to_owned), "{query}");
        }
        check("", Ok(false));
        check("passing", Ok(true));
        check("passing=", Ok(true));
        check("passing=1", Ok(true));
        check("passing=true", Ok(true));
        check("passing=false", Ok(false));
        check("passing=maybe", Err("Invalid value for ?passing"));
    }

    #[test]
    fn tags_are_many_and_in_any_case() {
        assert_eq!(params("tag=A&x=1&tag=b&tag=").tags(), Ok(Tags(vec!["a".into(), "b".into()])));
    }
}
