-- Workers look every few seconds who else is running; there may be years of runs that are not.
CREATE INDEX runs_running ON sync.runs (api) WHERE status = 'running';
