//! How far the lake is behind while the load goes on, from the `/metrics` of a process of the target.

use serde::Serialize;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use url::Url;

const BETWEEN: Duration = Duration::from_secs(1);

/// At one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    /// Records that wait for the lake, of all lanes.
    pub records: f64,
    /// Age of the oldest of them.
    pub seconds: f64,
}

/// Over the run.
#[derive(Debug, Default, Serialize)]
pub struct Lag {
    /// Looks that told something.
    pub samples: u64,
    /// The worst of each.
    pub max: Option<Reading>,
    /// When the last request was answered.
    pub end: Option<Reading>,
    /// Why a look told nothing, the last time.
    pub error: Option<String>,
}

impl Lag {
    /// Looks every second until `stop`, and once more then.
    pub async fn follow(admin: Url, stop: CancellationToken) -> Self {
        let mut lag = Self::default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        loop {
            let last = stop.is_cancelled();
            match http.as_ref().map_err(ToString::to_string) {
                Ok(http) => lag.look(http, &admin).await,
                Err(error) => lag.error = Some(error),
            }
            if last {
                return lag;
            }
            tokio::select! {
                () = tokio::time::sleep(BETWEEN) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn look(&mut self, http: &reqwest::Client, admin: &Url) {
        match scrape(http, admin).await {
            Ok(now) => {
                let worst = self.max.unwrap_or(now);
                self.samples += 1;
                self.max =
                    Some(Reading { records: worst.records.max(now.records), seconds: worst.seconds.max(now.seconds) });
                self.end = Some(now);
            }
            Err(error) => {
                self.end = None;
                self.error = Some(error);
            }
        }
    }
}

async fn scrape(http: &reqwest::Client, admin: &Url) -> Result<Reading, String> {
    let url = admin.join("metrics").map_err(|error| error.to_string())?;
    let answer = http.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status);
    let text = answer.map_err(|error| format!("--admin: {error}"))?.text().await;
    let text = text.map_err(|error| format!("--admin: {error}"))?;
    read(&text)
        .ok_or_else(|| format!("{url} does not know the lag: is it the --admin address of a process with lanes?"))
}

/// None while the process cannot see the lag.
fn read(metrics: &str) -> Option<Reading> {
    let known = metrics.lines().any(|line| line.trim() == "tributary_lag_known 1");
    let values = |name: &'static str| {
        let lines = metrics.lines().filter(move |line| line.starts_with(name) && line.contains("stage=\"lake\""));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
    };
    known.then(|| Reading {
        records: values("tributary_lag_records{").sum(),
        seconds: values("tributary_lag_seconds{").fold(0.0, f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_together_and_no_other_stage() {
        let text = "tributary_lag_known 1\n\
            tributary_lag_records{topic=\"records\",partition=\"0\",stage=\"lake\"} 7\n\
            tributary_lag_records{topic=\"records\",partition=\"1\",stage=\"lake\"} 5\n\
            tributary_lag_records{topic=\"rejects\",partition=\"0\",stage=\"rejects\"} 100\n\
            tributary_lag_seconds{topic=\"records\",partition=\"0\",stage=\"lake\"} 0.5\n\
            tributary_lag_seconds{topic=\"records\",partition=\"1\",stage=\"lake\"} 2.25\n# EOF\n";
        assert_eq!(read(text), Some(Reading { records: 12.0, seconds: 2.25 }));
        assert_eq!(read(&text.replace("known 1", "known 0")), None);
        assert_eq!(read(""), None);
    }
}
