module keyferry.invalid/e2e/oracles

go 1.24

require (
	github.com/robfig/cron/v3 v3.0.1
	github.com/tidwall/gjson v1.18.0
)

require (
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.0 // indirect
)
