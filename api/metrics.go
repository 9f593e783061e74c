package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what /metrics shows. Each server has a registry of its own, so that
// several can live in one process.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
}

func newMetrics(o Options) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tandem_http_requests_total", Help: "HTTP requests by route and status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tandem_http_request_seconds", Help: "Time to answer, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"method", "route"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tandem_live_streams", Help: "Open live streams of members."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.streams,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Backlog != nil {
		backlog := &backlogCollector{read: o.Backlog}
		m.registry.MustRegister(backlog)
	}
	if o.Waiting != nil {
		m.registry.MustRegister(waitingCollector{o.Waiting})
	}
	m.registry.MustRegister(o.Collectors...)
	return m
}

func (m *metrics) request(method, route string, status int, took time.Duration) {
	if !slices.Contains(methods, method) {
		method = "other" // a client chooses the word; each new one would be a new time series
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(method, route).Observe(took.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: 5 * time.Second})
}

// backlogCollector asks the outbox at scrape time, so that the figure is exact.
type backlogCollector struct {
	read func(context.Context) (int64, time.Duration, error)
}

var (
	backlogRows   = prometheus.NewDesc("tandem_outbox_rows", "Facts committed but not yet on the bus.", nil, nil)
	backlogOldest = prometheus.NewDesc("tandem_outbox_oldest_seconds", "Age of the oldest of them.", nil, nil)
)

func (c *backlogCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- backlogRows
	ch <- backlogOldest
}

func (c *backlogCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	n, oldest, err := c.read(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(backlogRows, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(backlogRows, prometheus.GaugeValue, float64(n))
	ch <- prometheus.MustNewConstMetric(backlogOldest, prometheus.GaugeValue, oldest.Seconds())
}

// waitingCollector asks the queue of inbound messages at scrape time.
type waitingCollector struct {
	read func() (int, time.Duration)
}

var (
	inboundWaiting = prometheus.NewDesc("tandem_inbound_waiting", "Inbound messages that wait to be stored.", nil, nil)
	inboundOldest  = prometheus.NewDesc("tandem_inbound_oldest_seconds", "Age of the oldest inbound message that is not stored yet.", nil, nil)
)

func (c waitingCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- inboundWaiting
	ch <- inboundOldest
}

func (c waitingCollector) Collect(ch chan<- prometheus.Metric) {
	n, oldest := c.read()
	ch <- prometheus.MustNewConstMetric(inboundWaiting, prometheus.GaugeValue, float64(n))
	ch <- prometheus.MustNewConstMetric(inboundOldest, prometheus.GaugeValue, oldest.Seconds())
}
