// What a person does with the Go client, each thing a case: one line of JSON for each on stdout.
//
//	everyday <sc:// URL> <case> ...
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/apache/spark-connect-go/spark/sql"
	"github.com/apache/spark-connect-go/spark/sql/types"
)

const many = 500_000

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	session, err := sql.NewSessionBuilder().Remote(os.Args[1]).Build(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, name := range os.Args[2:] {
		found, err := run(ctx, session, name)
		told := map[string]string{"case": name, "found": found}
		if err != nil {
			told = map[string]string{"case": name, "fault": err.Error()}
		}
		line, _ := json.Marshal(told)
		fmt.Println(string(line))
	}
}

// run says what a case has found.
func run(ctx context.Context, session sql.SparkSession, name string) (string, error) {
	switch name {
	case "sql":
		return rows(ctx, session, "SELECT id, concat('größe ', id) AS t FROM range(3)")
	case "dataframe":
		return dataframe(ctx, session)
	case "local":
		return local(ctx, session)
	case "config":
		if err := session.Config().Set(ctx, "spark.sql.shuffle.partitions", "3"); err != nil {
			return "", err
		}
		return session.Config().Get(ctx, "spark.sql.shuffle.partitions")
	case "large":
		return large(ctx, session)
	case "error":
		_, err := rows(ctx, session, "SELECT nowhere")
		if err == nil || !strings.Contains(err.Error(), "UNRESOLVED_COLUMN") {
			return "no such error", err
		}
		return "UNRESOLVED_COLUMN", nil
	case "stop":
		return "stopped", session.Stop()
	}
	return "", fmt.Errorf("no case %s", name)
}

func rows(ctx context.Context, session sql.SparkSession, query string) (string, error) {
	frame, err := session.Sql(ctx, query)
	if err != nil {
		return "", err
	}
	all, err := frame.Collect(ctx)
	if err != nil {
		return "", err
	}
	told := []string{}
	for _, row := range all {
		told = append(told, fmt.Sprint(row.Values()...))
	}
	return strings.Join(told, "; "), nil
}

func dataframe(ctx context.Context, session sql.SparkSession) (string, error) {
	frame, err := session.Sql(ctx, "SELECT id FROM range(100000)")
	if err != nil {
		return "", err
	}
	if frame, err = frame.FilterByString(ctx, "id % 2 = 0"); err != nil {
		return "", err
	}
	count, err := frame.Count(ctx)
	return fmt.Sprint(count), err
}

// local sends rows of its own and has them counted.
func local(ctx context.Context, session sql.SparkSession) (string, error) {
	data := [][]any{}
	for at := range 1000 {
		data = append(data, []any{at, fmt.Sprintf("row %d", at)})
	}
	schema := types.StructOf(types.NewStructField("id", types.INTEGER), types.NewStructField("t", types.STRING))
	frame, err := session.CreateDataFrame(ctx, data, schema)
	if err != nil {
		return "", err
	}
	count, err := frame.Count(ctx)
	return fmt.Sprint(count), err
}

// large reads megabytes of rows.
func large(ctx context.Context, session sql.SparkSession) (string, error) {
	frame, err := session.Sql(ctx, fmt.Sprintf("SELECT id, repeat('x', 16) AS t FROM range(%d)", many))
	if err != nil {
		return "", err
	}
	all, err := frame.Collect(ctx)
	if err != nil {
		return "", err
	}
	sum := int64(0)
	for _, row := range all {
		sum += row.At(0).(int64)
	}
	return fmt.Sprint(sum), nil
}
