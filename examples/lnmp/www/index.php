<?php
// The server knows www-data by the socket: there is no password.
mysqli_report(MYSQLI_REPORT_OFF);
if ($db = mysqli_connect('localhost', 'www-data')) {
    echo 'MySQL is OK!';
} else {
    http_response_code(503);
    echo 'MySQL: ', mysqli_connect_error();
}
