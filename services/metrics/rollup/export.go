package rollup

import (
	"bytes"
	"context"
	"encoding/csv"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"erlmcp.dev/services/metrics/store"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// chunk is about how many bytes of an export are sent at a time.
const chunk = 32 << 10

// Export passes on usage as asked, however much it is, as a file in pieces: whole lines each, without the last one's
// end. It holds one piece at a time.
func (r *Rollup) Export(ctx context.Context, req *metricsv1.QueryUsageRequest, format metricsv1.Format, send func(contentType string, piece []byte) error) error {
	q, err := r.query(req)
	if err != nil {
		return err
	}
	q.Limit = 0
	var out bytes.Buffer
	contentType, write := "application/x-ndjson", jsonLine
	if format == metricsv1.Format_FORMAT_CSV {
		contentType, write = "text/csv; charset=utf-8", csvLine
		out.WriteString("start,principal,server,method,name,calls,errors,micros,p50_micros,p90_micros,p99_micros,tenant\n")
	}
	flush := func() error {
		defer out.Reset()
		return send(contentType, bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	}
	err = r.Store.SumUsage(ctx, q, func(row store.Row) error {
		if err := write(&out, message(q, row)); err != nil || out.Len() < chunk {
			return err
		}
		return flush()
	})
	if err != nil || out.Len() == 0 {
		return err
	}
	return flush()
}

func jsonLine(out *bytes.Buffer, u *metricsv1.Usage) error {
	line, err := protojson.Marshal(u)
	if err != nil {
		return err
	}
	out.Write(line)
	out.WriteByte('\n')
	return nil
}

// csvLine writes a row. Names that a spreadsheet would take for a formula are quoted as text.
func csvLine(out *bytes.Buffer, u *metricsv1.Usage) error {
	start := ""
	if u.GetMinute() != nil {
		start = u.GetMinute().AsTime().Format(time.RFC3339)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	w := csv.NewWriter(out)
	_ = w.Write([]string{ // a buffer takes everything
		start, text(u.GetPrincipal()), text(u.GetServer()), text(u.GetMethod()), text(u.GetName()),
		number(u.GetCalls()), number(u.GetErrors()), number(u.GetMicros()),
		number(u.GetP50Micros()), number(u.GetP90Micros()), number(u.GetP99Micros()), text(u.GetTenant()),
	})
	w.Flush()
	return w.Error()
}

func text(s string) string {
	if s != "" && bytes.IndexByte([]byte("=+-@\t\r"), s[0]) >= 0 {
		return "'" + s
	}
	return s
}
