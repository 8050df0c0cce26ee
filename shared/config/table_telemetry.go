package config

func telemetrySettings() []Setting {
	return []Setting{
		{
			Key: "log.level", Env: []string{"ERLMCP_LOG_LEVEL"}, Flag: "log-level", Kind: Choice, Default: "info",
			Choices: []string{"debug", "info", "warn", "error"},
			Doc:     "Least severity that is logged. Can be changed while erlmcp runs.",
			at:      func(c *Config) any { return &c.Log.Level },
		},
		{
			Key: "log.format", Env: []string{"ERLMCP_LOG_FORMAT"}, Flag: "log-format", Kind: Choice, Default: "auto",
			Choices: []string{"auto", "json", "text"},
			Doc:     "JSON or text on standard output; auto is text on a terminal and JSON elsewhere.",
			at:      func(c *Config) any { return &c.Log.Format },
		},
		{
			Key: "otel.enabled", Env: []string{"OTEL_ENABLED"}, Kind: Bool, Default: "false",
			Doc: "Sends traces and metrics by OTLP. The standard OTEL_* variables of OTLP, batches and intervals (OTEL_METRIC_EXPORT_INTERVAL, in ms) hold beside these.",
			at:  func(c *Config) any { return &c.OTel.Enabled },
		},
		{
			Key: "otel.endpoint", Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}, Kind: URL, Default: "http://localhost:4317",
			Doc: "OTLP collector. Over HTTP, v1/traces and v1/metrics are below it: http://collector:4318.",
			at:  func(c *Config) any { return &c.OTel.Endpoint },
		},
		{
			Key: "otel.protocol", Env: []string{"OTEL_EXPORTER_OTLP_PROTOCOL"}, Kind: Choice, Default: "grpc",
			Choices: []string{"grpc", "http/protobuf"},
			Doc:     "What the collector speaks.",
			at:      func(c *Config) any { return &c.OTel.Protocol },
		},
		{
			Key: "otel.traces", Env: []string{"OTEL_TRACES_EXPORTER"}, Kind: Choice, Default: "otlp",
			Choices: []string{"otlp", "none"},
			Doc:     "none sends metrics only.",
			at:      func(c *Config) any { return &c.OTel.Traces },
		},
		{
			Key: "otel.metrics", Env: []string{"OTEL_METRICS_EXPORTER"}, Kind: Choice, Default: "otlp",
			Choices: []string{"otlp", "none"},
			Doc:     "none sends traces only; /metrics has the same series.",
			at:      func(c *Config) any { return &c.OTel.Metrics },
		},
		{
			Key: "otel.service", Env: []string{"OTEL_SERVICE_NAME"}, Kind: String, Default: "erlmcp",
			Doc: "Name of the service in traces and metrics.",
			at:  func(c *Config) any { return &c.OTel.Service },
		},
		{
			Key: "otel.sampling", Env: []string{"OTEL_SAMPLING_RATE"}, Kind: Ratio, Default: "1",
			Doc: "Part of the traces that is kept, 0 to 1.",
			at:  func(c *Config) any { return &c.OTel.Sampling },
		},
	}
}
