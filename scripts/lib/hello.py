"""One real query by the stock PySpark client: a URL in, rows out. Run by the environment's own Python."""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
driver = spark.conf.get("spark.app.name")
rows = (
    spark.range(1_000_000)
    .groupBy((f.col("id") % 3).alias("bucket"))
    .agg(f.count("*").alias("rows"), f.sum("id").alias("sum"))
    .withColumn("answered_by", f.lit(driver))
    .orderBy("bucket")
)
rows.show()
spark.stop()
