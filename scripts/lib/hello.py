"""One query with the unmodified PySpark client: argument URL, output rows. Runs in a PySpark environment."""

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
